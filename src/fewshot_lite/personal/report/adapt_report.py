"""The report on adapting: how good, what to look at, what is taken for what, the classes."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from pathlib import Path
from typing import Any

from fewshot_lite.personal.model import Adaptation, PersonalModel
from fewshot_lite.personal.quality import Quality, assess
from fewshot_lite.personal.report import page
from fewshot_lite.personal.report.doubts import doubts
from fewshot_lite.personal.report.html import Html, el, join, name
from fewshot_lite.personal.report.matrix import MOST_CLASSES, confused_pairs, confusion_matrix
from fewshot_lite.personal.report.page import counted, percent, section, stat
from fewshot_lite.personal.report.reasons import left_out_answers
from fewshot_lite.personal.report.support import Support
from fewshot_lite.personal.report.writing import check_report, write_page

#: Pictures in the section of classes, and classes in it.
_MOST_PICTURES, _MOST_SHOWN = 1000, 200
#: Pictures of a class: no fewer and no more.
_FEWEST, _MOST = 3, 40


def write_adapt_report(
    personal: PersonalModel,
    path: str | Path,
    *,
    model: str | Path | None = None,
    quality: Quality | None = None,
    force: bool = False,
) -> Path:
    """Write what `adapt_page` makes, whole or not at all.

    Args:
        personal, model, quality: as for `adapt_page`.
        path: ends in .html.
        force: it may be there.

    Raises:
        UsageError: the path will not do.
        FewshotError: the page cannot be written.
    """
    path = Path(path)
    check_report(path, force=force)
    write_page(path, adapt_page(personal, model=model, quality=quality), force=force)
    return path


def adapt_page(
    personal: PersonalModel, *, model: str | Path | None = None, quality: Quality | None = None
) -> str:
    """One HTML page on a personal model.

    Of one that was just made it tells what was skipped and found in the folder; of one that was
    loaded, what its own photos tell.

    Args:
        personal: the model, whose thumbnails are shown.
        model: its file.
        quality: `quality.assess` of it, if that is known already.
    """
    quality = quality or assess(personal)
    support = Support.of(personal)
    found = personal.adaptation
    cards = doubts(support, quality, found)
    doubtful = len(quality.suspicious) + len(found.findings if found else ())
    title = name(found.root.resolve().name if found and found.root else "Personal model")
    sections = [
        section("look", "To look at", *(cards or [_nothing(quality)])),
        section("confused", "What is taken for what", _confusion(quality)),
        section("classes", "Classes", *_classes(support, quality)),
    ]
    links = [("look", "To look at"), ("confused", "What is taken for what")]
    return page.page(
        "Report on adapting",
        page.header(
            "Report on adapting",
            title,
            _line(personal, model, found),
            [_accuracy(quality), *_counts(personal, doubtful)],
            page.contents([*links, ("classes", "Classes")]),
        ),
        [el("p", _in_words(quality)), *sections],
        page.footer(page.facts(_origin(personal))),
    )


def _line(personal: PersonalModel, model: str | Path | None, found: Adaptation | None) -> Html:
    parts: list[object] = []
    if model is not None:
        parts += [name(str(model)), ", "]
    if found is not None:
        parts.append(f"learned in {found.seconds:.1f} s")
    else:
        parts.append("from a file: what was skipped when it was made is not known any more")
    return join(*parts)


def _accuracy(quality: Quality) -> Html:
    if quality.accuracy is None or quality.interval is None:
        return el("li", el("b", "?"), el("span", "expected accuracy"), class_="wide")
    low, high = quality.interval
    bar = el(
        "div",
        el("i", style=f"left: {100 * low:.1f}%; width: {100 * (high - low):.1f}%"),
        el("u", style=f"left: {100 * quality.accuracy:.1f}%"),
        class_="range",
        aria_hidden="true",
    )
    words = f"expected accuracy, {percent(low)} to {percent(high)}"
    return el("li", el("b", percent(quality.accuracy)), bar, el("span", words), class_="wide")


def _counts(personal: PersonalModel, doubtful: int) -> list[Html]:
    classes, photos = len(personal.class_names), len(personal.labels)
    return [
        stat(f"{classes:,}", "class" if classes == 1 else "classes"),
        stat(f"{photos:,}", "photo" if photos == 1 else "photos"),
        stat(f"{doubtful:,}", "to look at", look=doubtful > 0),
    ]


def _in_words(quality: Quality) -> Html:
    if quality.accuracy is None or quality.interval is None:
        return join(
            "How good the model is cannot be told, nor from where on a photo is unknown to it: no "
            "class has two photos. Add a few to each."
        )
    low, high = (100 * bound for bound in quality.interval)
    how = "each left out in turn and named by the others"
    if quality.anew:
        how = "each named by a model that was adapted anew, without it and a quarter of the others"
    words = (
        f"Of 100 new photos like these, about {100 * quality.accuracy:.0f} will be named right; "
        f"anything from {low:.0f} to {high:.0f} would be no surprise. This is known from the "
        f"{counted(quality.photos, 'photo')} themselves, {how}. Photos of other things, or taken "
        "elsewhere, may fare worse."
    )
    if quality.alone:
        words += (
            f" {counted(len(quality.alone), 'class', 'classes')} with one photo cannot be judged."
        )
    return join(words)


def _nothing(quality: Quality) -> Html:
    told = "" if quality.photos else " Whether a photo lies in the wrong class cannot be told."
    return el("p", f"Nothing stands out.{told}")


def _confusion(quality: Quality) -> Html:
    if len(quality.class_names) <= MOST_CLASSES:
        return confusion_matrix(quality.class_names, quality.confusion)
    return confused_pairs(quality.class_names, quality.confusion)


def _classes(support: Support, quality: Quality) -> list[Html]:
    """A card for each class, and words on what is not shown."""
    personal = support.personal
    answers = left_out_answers(personal)
    members: dict[int, list[int]] = defaultdict(list)
    for i, k in enumerate(personal.labels.tolist()):
        members[k].append(i)
    number = len(personal.class_names)
    limit = min(_MOST, max(_FEWEST, _MOST_PICTURES // number))
    cards = []
    for k in range(min(number, _MOST_SHOWN)):
        # Those that were named wrong come first, so that a limit does not hide them.
        order = sorted(members[k], key=lambda i: answers[i] in (k, None))
        shown = _shown(support, order[:limit], answers)
        total, right = sum(quality.confusion[k]), quality.confusion[k][k]
        told = [counted(len(members[k]), "photo")]
        if total:
            told.append(f"{right} of {total} named right when left out")
        if len(members[k]) > limit:
            told.append(f"{limit} are shown")
        heading = el(
            "div",
            el("h3", name(personal.class_names[k])),
            el("span", ", ".join(told), class_="soft"),
            class_="title",
        )
        cards.append(el("article", heading, shown, class_="card"))
    words = "Framed photos were taken for another class when they were left out."
    if number > _MOST_SHOWN:
        words += f" The first {_MOST_SHOWN} of {number:,} classes are shown."
    if not any(personal.thumbnails):
        words = "There are no pictures: the model keeps none."
    return [el("p", words, class_="soft"), *cards]


def _shown(support: Support, indices: list[int], answers: list[int | None]) -> Html:
    """Photos of one class, as pictures if there are any."""
    names = support.personal.class_names
    taken = {i: k for i in indices if (k := answers[i]) not in (support.labels[i], None)}
    if not any(map(support.jpeg, indices)):
        parts: list[object] = []
        for i in indices:
            parts += [", " if parts else None, name(support.name(i))]
            if i in taken:
                parts += [" (taken for ", name(names[taken[i]]), ")"]
        return el("p", *parts)
    return page.gallery(
        support.figure(i, taken_for=names[taken[i]] if i in taken else None, in_class=True)
        for i in indices
    )


def _origin(personal: PersonalModel) -> list[tuple[str, object]]:
    """Where the model is from, as far as it is recorded."""
    record: dict[str, Any] = personal.provenance
    base, head = record.get("base"), record.get("head")
    pairs: list[tuple[str, object]] = []
    if isinstance(base, dict) and base.get("name"):
        code = str(base.get("sha256") or "")[:16]
        pairs.append(("Base model", f"{base['name']}" + (f" (SHA-256 {code}…)" if code else "")))
    pairs.append(("Network", f"{personal.backbone.name}, images of {personal.image_size} px"))
    if isinstance(head, dict) and head.get("used"):
        pairs.append(("Head", str(head["used"])))
    created = record.get("created")
    if isinstance(created, str):
        pairs.append(("Made", _date(created)))
    return pairs


def _date(text: str) -> str:
    try:
        return datetime.fromisoformat(text).astimezone().strftime("%d %B %Y, %H:%M").lstrip("0")
    except (ValueError, OverflowError):
        return text
