"""Names and descriptions are shown and written as what they are, and never do anything."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from rich.console import Console

from fewshot_lite.cli.render.terminal import escape
from fewshot_lite.core.text import as_disks_see, csv_cell, is_hidden, visible

HIDDEN = [
    ("a\0b\x1b[2J", r"a\x00b\x1b[2J"),
    ("a\nb\tc\r", r"a\nb\tc\r"),
    ("\x9b31m\x7f", r"\x9b31m\x7f"),
    ("gpj.\u202egnp", r"gpj.\u202egnp"),
    ("\udc80\ud800", r"\udc80\ud800"),
    ("\u2028\u2029\u200f\ufeff\u2067", r"\u2028\u2029\u200f\ufeff\u2067"),
    ("שלום é 👩‍🍳 日本", "שלום é 👩‍🍳 日本"),
]


@pytest.mark.parametrize(("text", "shown"), HIDDEN)
def test_what_cannot_be_seen_is_shown_as_an_escape(text: str, shown: str) -> None:
    assert visible(text) == shown
    shown.encode()


def test_what_python_can_print_is_seen_as_it_is() -> None:
    assert not any(c.isprintable() and is_hidden(c) for c in map(chr, range(0x110000)))


@pytest.mark.parametrize(
    "text", ["[/x]", "[bold red]x[/]", "a[/]b", "[link=//x]y[/link]", "[", "]", ":smile:", "[@x]"]
)
def test_markup_of_the_terminal_is_printed_as_it_stands(text: str) -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, emoji=False, highlight=False)
    console.print(f"{escape(text)}|", end="")
    assert stream.getvalue() == f"{text}|"


@pytest.mark.parametrize("start", ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "\t=1", "\r=1"])
def test_a_cell_is_no_formula(start: str) -> None:
    harmless = start[0] in "\t\r"  # once it is shown as an escape
    assert csv_cell(Path(start)) == visible(start if harmless else f"./{start}")
    assert not csv_cell(start).lstrip().startswith(("=", "+", "-", "@"))
    stream = io.StringIO()
    csv.writer(stream).writerow([csv_cell(start)])
    assert len(stream.getvalue().splitlines()) == 1


def test_other_cells_are_as_they_are() -> None:
    assert [csv_cell(value) for value in ("mug", None, Path("a/b.jpg"), 3)] == [
        *("mug", "", str(Path("a/b.jpg")), "3")
    ]


def test_names_that_look_different_stay_two() -> None:
    for one, other in (("m²", "m2"), ("①", "1"), ("1 1", "11"), ("tasse", "taße")):
        assert as_disks_see(one) != as_disks_see(other)
    for one, other in (("Mug", "mug"), ("tea  cup ", "tea cup"), ("caf\u00e9", "cafe\u0301")):
        assert as_disks_see(one) == as_disks_see(other)
