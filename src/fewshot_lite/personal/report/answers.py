"""An answer as a card: the photo, what it is, what else it might be, and why."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from fewshot_lite.personal.prediction import UNKNOWN
from fewshot_lite.personal.report.html import Html, el, join, name
from fewshot_lite.personal.report.looking import Seen
from fewshot_lite.personal.report.page import percent, picture

if TYPE_CHECKING:
    from fewshot_lite.personal.report.support import Support


def cards(seen: Iterable[Seen], support: Support | None) -> Html:
    """Answers side by side; reasons if there is anything to show of the support photos."""
    return el(
        "ul", *(el("li", _card(item, support), class_="card") for item in seen), class_="cards"
    )


def _card(item: Seen, support: Support | None) -> Html:
    prediction, photo = item.prediction, str(item.prediction.path)
    rest = list(prediction.labels)
    if prediction.unknown:
        title, before = el("h3", UNKNOWN), "nearest: "
    else:
        (label, probability), *rest = rest
        title, before = el("h3", name(label), f" {percent(probability)}"), "or "
    others = _listed((join(name(label), f" {percent(p)}") for label, p in rest), before)
    about = el("div", title, others, el("p", name(photo), class_="soft"), _why(item, support))
    return el("div", el("figure", picture(item.jpeg, photo)), about, class_="answer")


def _why(item: Seen, support: Support | None) -> Html | None:
    if support is None or not item.reasons:
        return None
    if not any(map(support.jpeg, item.reasons)):
        return _listed((name(support.name(i)) for i in item.reasons), "Like ")
    answer = None if item.prediction.unknown else item.prediction.labels[0][0]
    figures = (
        support.reason(i, wrong=answer is not None and support.label(i) != answer)
        for i in item.reasons
    )
    photos = el("ul", *(el("li", figure) for figure in figures), class_="photos")
    return join(el("p", "Most like", class_="why"), photos)


def _listed(items: Iterable[Html], before: str) -> Html | None:
    parts: list[object] = []
    for item in items:
        parts += [", " if parts else before, item]
    return el("p", *parts, class_="soft") if parts else None
