"""The report on classifying: counts, the least and the most certain answers, unknowns, failures.

Answers are added one by one and few are kept, so memory and the page do not grow with the number of
files. This does not import torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fewshot_lite.core.files import as_path
from fewshot_lite.personal.bulk.writers import Output, Writer
from fewshot_lite.personal.classifier import PhotoClassifier
from fewshot_lite.personal.prediction import UNKNOWN, Prediction
from fewshot_lite.personal.report.page import check_report, render, write_page
from fewshot_lite.personal.report.photos import Answer, SupportPhotos, read_again
from fewshot_lite.personal.report.selection import MOST_FAILED, SHOWN, Selection
from fewshot_lite.personal.with_photos import WithPhotos

#: The most classes whose counts are listed.
_MOST_COUNTS = 200


class ClassifyReport:
    """Collects answers for a page.

    report = ClassifyReport(personal)
    for prediction in personal.classify_stream(paths):
        report.add(prediction)
    Path("report.html").write_text(report.page(), encoding="utf-8")
    """

    def __init__(self, model: PhotoClassifier, *, source: str | Path | None = None) -> None:
        """Start an empty report.

        Args:
            model: the model that answers.
            source: its file.
        """
        self.model = model
        self.source = source
        self.selection = Selection(model.class_names)

    def add(self, prediction: Prediction) -> None:
        """Add an answer."""
        self.selection.add(prediction)

    def page(self) -> str:
        """Return the page; the photos on it are read again, for pictures and reasons."""
        chosen, model = self.selection, self.model
        support = SupportPhotos(model) if isinstance(model, WithPhotos) else None  # not of exports
        groups = {"unsure": chosen.unsure, "unknown": chosen.unknowns, "sure": chosen.sure}
        shown = [prediction for group in groups.values() for prediction in group]
        answers = iter(read_again(model, support, shown))
        return render(
            "classify.html",
            {
                "chosen": chosen,
                "source": str(self.source) if self.source else None,
                "number_of_classes": len(model.class_names),
                "shown": SHOWN,
                "most_failed": MOST_FAILED,
                "common": ", ".join(f"{why} ({n:,})" for why, n in chosen.reasons.most_common(5)),
                "counts": self._counts(),
                "most_counts": _MOST_COUNTS,
                "groups": [
                    (key, [_card(next(answers), support) for _ in group])
                    for key, group in groups.items()
                    if group
                ],
                "exported": support is None,
                "pictures": support is not None and any(support.personal.thumbnails),
            },
        )

    def _counts(self) -> list[tuple[str, int, bool]]:
        """Return answers with their counts, and whether they are classes."""
        chosen = self.selection
        rows = [(label, count, True) for label, count in chosen.counts.most_common(_MOST_COUNTS)]
        others = [(UNKNOWN, chosen.unknown, False), ("failed", chosen.failed, False)]
        return [*rows, *(row for row in others if row[1])]


def _card(answer: Answer, support: SupportPhotos | None) -> dict[str, Any]:
    """Return a card for an answer: the photo, its label, other classes and similar photos."""
    prediction = answer.prediction
    label = None if prediction.unknown else prediction.labels[0][0]
    reasons = [support[i] for i in answer.reasons] if support else []
    return {
        "photo": answer.photo,
        "unknown": prediction.unknown,
        "label": label,
        "probability": prediction.probability,
        "others": prediction.labels if prediction.unknown else prediction.labels[1:],
        "reasons": [(photo, label is not None and photo.label != label) for photo in reasons],
    }


class PageWriter(Writer):
    """Writes a report on the answers."""

    def __init__(self, report: ClassifyReport, stream: Output) -> None:
        super().__init__(stream)
        self._report = report

    def write(self, prediction: Prediction) -> None:
        self._report.add(prediction)

    def end(self) -> None:
        self.stream.write(self._report.page())


def write_classify_report(
    model: PhotoClassifier,
    predictions: Iterable[Prediction],
    path: str | Path,
    *,
    source: str | Path | None = None,
    force: bool = False,
) -> Path:
    """Write an HTML page on answers, whole or not at all.

    Args:
        model: the model that answered.
        predictions: the answers, read one by one.
        path: the page, ending in .html.
        source: the model's file.
        force: overwrite an existing file.

    Raises:
        UsageError: an invalid path.
        FewshotError: the page cannot be written.
    """
    path = as_path(path, "path")
    check_report(path, force=force)
    report = ClassifyReport(model, source=source)
    for prediction in predictions:
        report.add(prediction)
    write_page(path, report.page(), force=force)
    return path
