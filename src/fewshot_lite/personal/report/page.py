"""The parts that both reports are put together from."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from datetime import datetime

from fewshot_lite import __version__
from fewshot_lite.personal.report.html import Html, el, join
from fewshot_lite.personal.report.style import CSS

#: The page may show what is in it, and nothing else: no scripts, nothing from anywhere.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(title: str, header: Html, sections: Iterable[Html | None], footer: Html) -> str:
    """A whole page."""
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="generator", content=f"fewshot-lite {__version__}"),
        el("title", title),
        el("style", Html(CSS)),
    )
    body = el("body", header, el("main", *sections), footer)
    return f"<!DOCTYPE html>\n{el('html', head, body, lang='en')}\n"


def header(kind: str, title: Html, line: Html, stats: Sequence[Html], links: Html) -> Html:
    """What the page is about, its figures at a glance, and where to go."""
    return el(
        "header",
        el("p", kind, class_="kind"),
        el("h1", title),
        el("p", line, class_="soft"),
        el("ul", *stats, class_="stats"),
        links,
    )


def contents(links: Sequence[tuple[str, str]]) -> Html:
    """Links to sections: (id, words)."""
    items = (el("a", words, href=f"#{target}") for target, words in links)
    return el("nav", *items, aria_label="Sections")


def section(identifier: str, title: str, *children: object) -> Html:
    """A part of the page that `contents` links to."""
    heading = el("h2", title, id=f"{identifier}-title")
    return el("section", heading, *children, id=identifier, aria_labelledby=f"{identifier}-title")


def stat(value: str, words: str, *, look: bool = False) -> Html:
    """One figure; `look` draws attention."""
    return el("li", el("b", value), el("span", words), class_="look" if look else None)


def picture(jpeg: bytes, photo: str) -> Html:
    """A thumbnail, or words in its place."""
    if not jpeg:
        return el("div", "no picture", class_="pic missing")
    source = "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
    return el("div", el("img", src=source, alt=f"Photo {photo}", loading="lazy"), class_="pic")


def figure(jpeg: bytes, photo: str, *caption: object, wrong: bool = False) -> Html:
    """A thumbnail with words below; the photo's whole name is seen when it is pointed at."""
    below = el("figcaption", *caption)
    kind = "wrong" if wrong else None
    return el("figure", picture(jpeg, photo), below, class_=kind, title=photo)


def gallery(figures: Iterable[Html]) -> Html:
    """Figures side by side."""
    return el("ul", *(el("li", item) for item in figures), class_="photos")


def table(
    caption: object, heads: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: int = 0
) -> Html:
    """A table whose first column names the rows; the last `numbers` columns are to the right."""

    def cells(tag: str, row: Sequence[object], scope: str) -> list[Html]:
        found = []
        for place, content in enumerate(row):
            kind = "number" if place >= len(row) - numbers else None
            if tag == "th" or place == 0:
                found.append(el("th", content, scope=scope, class_=kind))
            else:
                found.append(el("td", content, class_=kind))
        return found

    body = (el("tr", *cells("td", row, "row")) for row in rows)
    whole = el(
        "table",
        el("caption", caption),
        el("thead", el("tr", *cells("th", heads, "col"))),
        el("tbody", *body),
        class_="list",
    )
    return scrolling(whole, "Table")


def scrolling(content: Html, label: str) -> Html:
    """Content that may be wider than a phone; to be reached by keyboard, too."""
    return el("div", content, class_="scroll", role="region", aria_label=label, tabindex="0")


def facts(pairs: Iterable[tuple[str, object]]) -> Html:
    """Names and values."""
    return el("dl", *(join(el("dt", key), el("dd", value)) for key, value in pairs))


def footer(*children: object) -> Html:
    """What to know of the page itself."""
    made = datetime.now().astimezone().strftime("%d %B %Y, %H:%M").lstrip("0")
    said = (
        f"Made on {made} by fewshot-lite {__version__}. Pictures are small copies of your photos, "
        "cut to the central square, as the model sees them; they are in this file, and whoever you "
        "give it to has them. The page loads nothing and runs nothing."
    )
    return el("footer", el("hr"), *children, el("p", said))


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def percent(share: float) -> str:
    """As the command line prints it; never 100% of what is less."""
    return f"{min(share, 0.999):.1%}" if 0.995 <= share < 1 else f"{share:.0%}"
