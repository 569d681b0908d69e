"""What a person should look at: photos that seem mislabelled, and what is wrong with the folder."""

from __future__ import annotations

from fewshot_lite.images.preflight import Finding, Kind
from fewshot_lite.personal.model import Adaptation
from fewshot_lite.personal.quality import Quality, Suspicion
from fewshot_lite.personal.report.html import Html, el, join, name
from fewshot_lite.personal.report.page import counted, gallery, percent, table
from fewshot_lite.personal.report.reasons import typical_photos
from fewshot_lite.personal.report.support import Support

#: Doubtful photos, groups of copies, pictures of a group and files in a list that are shown.
_MOST_PHOTOS, _MOST_GROUPS, _MOST_COPIES, _MOST_FILES = 24, 24, 8, 200

_COPIES: dict[Kind, tuple[str, str]] = {
    "two-labels": (
        "The same photo in two classes",
        "One of them is wrong, and the model learns both.",
    ),
    "same-file": (
        "The same file twice",
        "Copies add nothing, and make the model seem better than it is.",
    ),
    "near-copy": (
        "Nearly the same photo",
        "Re-saved, resized or cropped copies, or a burst. They make the model seem better than it "
        "is: a copy left out is named by its twin.",
    ),
    "tiny": ("Tiny photos", "Enlarged to what the model sees, they show little."),
}
_CLASSES: dict[Kind, str] = {
    "one-photo": "Classes with one photo",
    "imbalance": "Many photos of one class, few of another",
    "no-photo": "Classes without a photo",
    "one-class": "One class",
}


def doubts(support: Support, quality: Quality, found: Adaptation | None) -> list[Html]:
    """Cards with what there is to look at; none if all is well."""
    cards: list[Html] = []
    findings = found.findings if found else ()
    for kind, (title, why) in _COPIES.items():
        own = [finding for finding in findings if finding.kind == kind]
        if own:
            cards.append(_groups(support, own, title, why))
    for kind, title in _CLASSES.items():
        own = [finding for finding in findings if finding.kind == kind]
        if own:
            lines = (el("li", *_on_classes(finding)) for finding in own[:_MOST_FILES])
            cards.append(_card(title, el("ul", *lines)))
    if found and found.skipped:
        cards.append(_skipped(support, found))
    small = [el("div", *cards, class_="cols")] if cards else []
    return [*_mislabelled(support, quality), *small]


def _mislabelled(support: Support, quality: Quality) -> list[Html]:
    suspicious = frozenset(item.index for item in quality.suspicious)
    typical = typical_photos(support.personal, leave_out=suspicious)
    shown = quality.suspicious[:_MOST_PHOTOS]
    cards = [_mislabelled_one(support, item, typical) for item in shown]
    if len(quality.suspicious) > len(shown):
        more = len(quality.suspicious) - len(shown)
        cards.append(_card(f"{counted(more, 'more photo')} may lie in the wrong class", None))
    return cards


def _mislabelled_one(support: Support, item: Suspicion, typical: list[list[int]]) -> Html:
    classes = support.personal.class_names
    rows = [
        el(
            "div",
            el("p", "Typical of ", name(label), class_="why"),
            support.gallery(typical[classes.index(label)]),
        )
        for label in (item.label, item.looks_like)
    ]
    about = el(
        "div",
        el("h3", "In the wrong class? ", name(support.name(item.index))),
        el(
            "p",
            *("It lies in ", el("b", name(item.label)), " and looks like "),
            *(el("b", name(item.looks_like)), ". "),
            el("span", f"{percent(item.probability)} likely wrong", class_="tag"),
        ),
        el("div", *rows, class_="rows"),
    )
    large = support.figure(item.index, taken_for=item.looks_like)
    return el("article", el("div", large, about, class_="doubt"), class_="card")


def _groups(support: Support, findings: list[Finding], title: str, why: str) -> Html:
    parts: list[object] = [el("p", why, class_="soft")]
    for finding in findings[:_MOST_GROUPS]:
        parts.append(el("p", finding.detail, class_="why"))
        parts.append(gallery(support.file(path) for path in finding.paths[:_MOST_COPIES]))
        if len(finding.paths) > _MOST_COPIES:
            parts.append(el("p", f"and {len(finding.paths) - _MOST_COPIES} more", class_="soft"))
    if len(findings) > _MOST_GROUPS:
        parts.append(el("p", f"{len(findings) - _MOST_GROUPS} more are not shown.", class_="soft"))
    return _card(title, *parts)


def _on_classes(finding: Finding) -> list[object]:
    names: list[object] = []
    for class_name in finding.classes:
        names += [", " if names else "", name(class_name)]
    return [*names, ": ", finding.detail]


def _skipped(support: Support, found: Adaptation) -> Html:
    rows = ((name(support.spelled(item.path)), item.reason) for item in found.skipped[:_MOST_FILES])
    more = len(found.skipped) - _MOST_FILES
    caption = join("Nothing was learned from these.", f" {more:,} more." if more > 0 else None)
    title = f"{counted(len(found.skipped), 'file')} skipped"
    return _card(title, table(caption, ("file", "why"), rows), wide=True)


def _card(title: str, *children: object, wide: bool = False) -> Html:
    return el("article", el("h3", title), *children, class_="card wide" if wide else "card")
