"""What is taken for what: a shaded table of counts, or, of many classes, the pairs alone."""

from __future__ import annotations

from collections.abc import Sequence

from fewshot_lite.personal.report.html import Html, el, join, name
from fewshot_lite.personal.report.page import counted, scrolling, table

#: Classes of which the whole matrix can be read, and pairs that are listed of more.
MOST_CLASSES, MOST_PAIRS = 30, 30

#: Shades go up to this, so that numbers stay readable on them.
_DARKEST = 0.6


def confusion_matrix(names: Sequence[str], counts: Sequence[Sequence[int]]) -> Html:
    """A table.

    Args:
        names: K classes.
        counts: K rows, the classes that photos are in; K columns, what they were taken for.
    """
    heads = (el("th", el("span", name(column)), scope="col") for column in names)
    rows = (
        el("tr", el("th", name(row), scope="row"), *_cells(k, counts[k]))
        for k, row in enumerate(names)
    )
    words = (
        "Each photo was left out in turn and named by the others. A row is the class that photos "
        "are in, a column what they were taken for: the diagonal is right."
    )
    whole = el(
        "table",
        el("caption", "Photos of a class by what they were taken for", class_="hidden"),
        el("thead", el("tr", el("td", class_="corner"), *heads)),
        el("tbody", *rows),
        class_="matrix",
    )
    return join(el("p", words, class_="soft"), scrolling(whole, "Confusion matrix"))


def _cells(k: int, row: Sequence[int]) -> list[Html]:
    total = sum(row)
    if total == 0:
        return [el("td", "one photo only: nothing to tell by", colspan=len(row), class_="alone")]
    cells = []
    for column, count in enumerate(row):
        if count == 0:
            cells.append(el("td", "·", class_="none"))
            continue
        colour = "right" if column == k else "wrong"
        shade = _DARKEST * (0.2 + 0.8 * count / total)
        style = f"background: rgba(var(--{colour}), {shade:.2f})"
        cells.append(el("td", str(count), style=style))
    return cells


def confused_pairs(names: Sequence[str], counts: Sequence[Sequence[int]]) -> Html:
    """The most frequent mistakes as a list, for more classes than a matrix can show."""
    classes = range(len(names))
    found = [(counts[a][b], a, b) for a in classes for b in classes if a != b and counts[a][b] > 0]
    found.sort(key=lambda item: (-item[0] / sum(counts[item[1]]), -item[0], item[1:]))
    if not found:
        return el("p", "None, when each photo was left out in turn and named by the others.")
    rows = (
        (name(names[a]), name(names[b]), f"{count} of {sum(counts[a])}")
        for count, a, b in found[:MOST_PAIRS]
    )
    caption = join(
        f"Each photo was left out in turn and named by the others. {counted(len(found), 'pair')} "
        "of classes had mistakes",
        f"; the worst {MOST_PAIRS} are listed." if len(found) > MOST_PAIRS else ".",
    )
    return table(caption, ("photos of", "taken for", "photos"), rows, numbers=1)
