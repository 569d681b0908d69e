"""Markup is escaped unless it is markup."""

from __future__ import annotations

import pytest

from fewshot_lite.personal.report.html import Html, el, escape, join, name, visible


def test_text_is_escaped_and_markup_is_not() -> None:
    assert el("p", "a<b>&", el("b", "c")) == "<p>a&lt;b&gt;&amp;<b>c</b></p>"
    assert join("<", Html("<br>"), None, 3) == "&lt;<br>3"


def test_attributes_are_quoted() -> None:
    made = el("img", alt='"><script>', class_="a", aria_label=None, hidden=True, off=False)
    assert made == '<img alt="&quot;&gt;&lt;script&gt;" class="a" hidden>'
    assert el("td", data_x="'") == '<td data-x="&#x27;"></td>'


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\0b\x1b[2J", r"a\x00b\x1b[2J"),
        ("a\nb\tc", r"a\nb\tc"),
        ("gpj.\u202egnp", r"gpj.\u202egnp"),
        ("\udc80\ud800", r"\udc80\ud800"),
        ("\u2028\u2029\u200f\ufeff\u2067", r"\u2028\u2029\u200f\ufeff\u2067"),
        ("שלום é 👩‍🍳 日本", "שלום é 👩‍🍳 日本"),
    ],
)
def test_what_cannot_be_seen_is_shown_as_an_escape(text: str, shown: str) -> None:
    assert visible(text) == escape(text) == shown
    assert name(text) == f"<bdi>{shown}</bdi>"
    shown.encode()
