"""HTML from nested calls, in which whatever is not markup already is escaped.

    el("p", "Looks like ", el("b", class_name), class_="hint")

Names of files and classes are anything that a disk holds. So all text passes through `visible`,
which shows what would be invisible or would reorder what is around it: control characters, bytes
that are no Unicode (surrogates), marks that turn the direction of writing.
"""

from __future__ import annotations

import html
import unicodedata

#: Marks that change the direction of what follows, and a zero-width no-break space.
_TURNING = frozenset(
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"
)
_VOID = frozenset(["br", "hr", "img", "meta"])


class Html(str):
    """Markup, safe as it stands; any other string is text."""

    __slots__ = ()


def el(tag: str, *children: object, **attributes: object) -> Html:
    """An element.

    Args:
        tag: its name.
        children: markup, or text to escape; None is left out.
        attributes: `class_` is class, `aria_label` is aria-label; None leaves one out, True has
            no value.
    """
    words = [tag]
    for key, value in attributes.items():
        name = key.rstrip("_").replace("_", "-")
        if value is True:
            words.append(name)
        elif value is not None and value is not False:
            words.append(f'{name}="{escape(str(value))}"')
    start = Html(f"<{' '.join(words)}>")
    return start if tag in _VOID else Html(f"{start}{join(*children)}</{tag}>")


def join(*children: object) -> Html:
    """Markup and text one after another."""
    return Html(
        "".join(c if isinstance(c, Html) else escape(str(c)) for c in children if c is not None)
    )


def name(text: str) -> Html:
    """The name of a file or class: text of whatever direction, which leaves that around it."""
    return el("bdi", text)


def escape(text: str) -> str:
    """Text for content and for quoted attributes."""
    return html.escape(visible(text))


def visible(text: str) -> str:
    """Text with what would not be seen as it is, as Python's escapes."""
    return "".join(_escaped(c) if _is_hidden(c) else c for c in text)


def _is_hidden(c: str) -> bool:
    return c in _TURNING or unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")


def _escaped(c: str) -> str:
    return c.encode("unicode_escape", "surrogatepass").decode()
