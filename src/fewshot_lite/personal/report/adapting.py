"""The report on adapting: expected accuracy, doubtful photos, confusions, and the classes."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from fewshot_lite.core.files import as_path
from fewshot_lite.images.preflight import Finding, Kind
from fewshot_lite.personal.quality import Quality, advice, assess
from fewshot_lite.personal.report.page import (
    check_report,
    counted,
    date_in_words,
    render,
    write_page,
)
from fewshot_lite.personal.report.photos import Photo, SupportPhotos
from fewshot_lite.personal.report.reasons import left_out_answers, typical_photos
from fewshot_lite.personal.with_photos import WithPhotos

#: The most pictures, and classes, in the section of classes.
_MOST_PICTURES, _MOST_SHOWN = 1000, 200
#: The fewest and the most pictures of a class.
_FEWEST, _MOST = 3, 40
#: The most doubtful photos, groups of copies, pictures of a group, and files in a list.
_MOST_PHOTOS, _MOST_GROUPS, _MOST_COPIES, _MOST_FILES = 24, 24, 8, 200
#: The most classes for which the whole matrix is readable; for more, the pairs that are listed.
_MOST_CLASSES, MOST_PAIRS = 30, 30
#: The darkest shade of the matrix on which numbers are readable.
_DARKEST = 0.6

#: Kinds of findings that are shown with their photos, and kinds that are about classes.
_COPIES: tuple[Kind, ...] = ("two-labels", "same-file", "near-copy", "tiny")
_CLASSES: tuple[Kind, ...] = ("one-photo", "imbalance")


def write_adapt_report(
    personal: WithPhotos,
    path: str | Path,
    *,
    model: str | Path | None = None,
    quality: Quality | None = None,
    force: bool = False,
) -> Path:
    """Write `adapt_page`, whose arguments the others are, whole or not at all.

    Args:
        path: the page, ending in .html.
        force: overwrite an existing file.

    Raises:
        UsageError: an invalid path.
        FewshotError: the page cannot be written.
    """
    path = as_path(path, "path")
    check_report(path, force=force)
    write_page(path, adapt_page(personal, model=model, quality=quality), force=force)
    return path


def adapt_page(
    personal: WithPhotos, *, model: str | Path | None = None, quality: Quality | None = None
) -> str:
    """Return an HTML page on a personal model.

    The files that were skipped and the findings in the folder are on it only if the model was just
    adapted, not loaded.

    Args:
        personal: the model, whose thumbnails are shown.
        model: its file.
        quality: `quality.assess` of it, if that was computed already.
    """
    quality = quality or assess(personal)
    support, adaptation = SupportPhotos(personal), personal.adaptation
    findings = adaptation.findings if adaptation else ()
    root = adaptation.root if adaptation else None
    return render(
        "adapt.html",
        {
            "name": root.resolve().name if root else "Personal model",
            "model": str(model) if model is not None else None,
            "seconds": adaptation.seconds if adaptation else None,
            "quality": quality,
            "advice": advice(quality, personal.examples),
            "number_of_classes": len(personal.class_names),
            "number_of_photos": len(support.labels),
            "doubtful": len(quality.suspicious) + len(findings),
            "suspicious": _suspicious(support, quality),
            "copies": _by_kind(findings, _COPIES),
            "class_findings": _by_kind(findings, _CLASSES),
            "file": support.file,
            "skipped": [
                (support.spelled(item.path), item.reason)
                for item in (adaptation.skipped if adaptation else ())
            ],
            "most": {"files": _MOST_FILES, "groups": _MOST_GROUPS, "copies": _MOST_COPIES},
            "matrix": matrix(quality) if len(quality.class_names) <= _MOST_CLASSES else None,
            "pairs": confused_pairs(quality),
            "most_pairs": MOST_PAIRS,
            "classes": _classes(support, quality),
            "most_classes": _MOST_SHOWN,
            "pictures": any(personal.thumbnails),
            "origin": _origin(personal),
        },
    )


def _suspicious(support: SupportPhotos, quality: Quality) -> list[dict[str, Any]]:
    """Return the photos that may have the wrong label, with typical ones of both classes."""
    suspicious = frozenset(item.index for item in quality.suspicious)
    typical = typical_photos(support.personal, leave_out=suspicious)
    classes = support.personal.class_names
    return [
        {
            "photo": replace(support[item.index], taken_for=item.looks_like),
            "looks_like": item.looks_like,
            "probability": item.probability,
            "typical": [
                (label, [support[i] for i in typical[classes.index(label)]])
                for label in (item.label, item.looks_like)
            ],
        }
        for item in quality.suspicious[:_MOST_PHOTOS]
    ]


def _by_kind(findings: Sequence[Finding], kinds: Sequence[Kind]) -> list[list[Finding]]:
    """Group findings by kind, without empty groups."""
    groups = ([finding for finding in findings if finding.kind == kind] for kind in kinds)
    return [group for group in groups if group]


def matrix(quality: Quality) -> list[tuple[str, list[tuple[int, str, float]]]]:
    """Return the rows of the confusion matrix: a class, and count, colour and shade of its cells.

    A class of which no photo could be left out has no cells.
    """
    rows = []
    for k, (name, counts) in enumerate(zip(quality.class_names, quality.confusion, strict=True)):
        total, cells = sum(counts), []
        for column, count in enumerate(counts if total else ()):
            shade = _DARKEST * (0.2 + 0.8 * count / total)
            cells.append((count, "right" if column == k else "wrong", shade))
        rows.append((name, cells))
    return rows


def confused_pairs(quality: Quality) -> list[tuple[str, str, int, int]]:
    """Return all confusions, the most frequent first: true and predicted class, count, total.

    They replace the matrix where there are more classes than it can show.
    """
    names, counts = quality.class_names, quality.confusion
    pairs = [
        (count, a, b)
        for a, row in enumerate(counts)
        for b, count in enumerate(row)
        if a != b and count
    ]
    pairs.sort(key=lambda item: (-item[0] / sum(counts[item[1]]), -item[0], item[1:]))
    return [(names[a], names[b], count, sum(counts[a])) for count, a, b in pairs]


def _classes(support: SupportPhotos, quality: Quality) -> list[dict[str, Any]]:
    """Return a card for each class; photos that were named wrong come first, so none is hidden."""
    personal = support.personal
    names, answers = personal.class_names, left_out_answers(personal)
    members: dict[int, list[int]] = defaultdict(list)
    for i, k in enumerate(support.labels):
        members[k].append(i)
    limit = min(_MOST, max(_FEWEST, _MOST_PICTURES // len(names)))

    def shown(index: int) -> Photo:
        answer = answers[index]
        wrong = answer is not None and answer != support.labels[index]
        return replace(support[index], taken_for=names[answer] if wrong else None)  # type: ignore[index]

    cards = []
    for k, name in enumerate(names[:_MOST_SHOWN]):
        order = sorted(members[k], key=lambda i, k=k: answers[i] in (k, None))  # type: ignore[misc]
        total, right = sum(quality.confusion[k]), quality.confusion[k][k]
        caption = [counted(len(members[k]), "photo")]
        if total:
            caption.append(f"{right} of {total} named right when left out")
        if len(members[k]) > limit:
            caption.append(f"{limit} are shown")
        photos = [shown(i) for i in order[:limit]]
        cards.append({"name": name, "caption": ", ".join(caption), "photos": photos})
    return cards


def _origin(personal: WithPhotos) -> list[tuple[str, str]]:
    """Return the origin of the model, as far as it is recorded, as pairs of name and value."""
    record: dict[str, Any] = personal.provenance
    base, head = record.get("base"), record.get("head")
    pairs = []
    if isinstance(base, dict) and base.get("name"):
        code = str(base.get("sha256") or "")[:16]
        pairs.append(("Base model", f"{base['name']}" + (f" (SHA-256 {code}…)" if code else "")))
    pairs.append(("Network", f"{personal.network_name}, images of {personal.image_size} px"))
    if isinstance(head, dict) and head.get("used"):
        pairs.append(("Head", str(head["used"])))
    if isinstance(created := record.get("created"), str):
        with contextlib.suppress(ValueError, OverflowError):
            created = date_in_words(datetime.fromisoformat(created))
        pairs.append(("Made", created))
    return pairs
