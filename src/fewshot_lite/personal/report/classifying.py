"""The report on classifying: counts, the least and the most sure answers, unknowns, failures.

Answers pass one by one and few are kept, so that memory and the page do not grow with the number of
files. Importing this does not import torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewshot_lite.personal.bulk.writers import Output, Writer
from fewshot_lite.personal.classifier import PhotoClassifier
from fewshot_lite.personal.prediction import UNKNOWN, Prediction
from fewshot_lite.personal.report.page import check_report, render, write_page
from fewshot_lite.personal.report.photos import Answer, read_again, support_of
from fewshot_lite.personal.report.selection import MOST_FAILED, SHOWN, Selection

if TYPE_CHECKING:
    from fewshot_lite.personal.report.photos import SupportPhotos

#: Classes of which counts are listed.
_MOST_COUNTS = 200


class ClassifyReport:
    """Takes in answers, and then is a page.

    report = ClassifyReport(personal)
    for prediction in personal.classify_stream(paths):
        report.add(prediction)
    Path("report.html").write_text(report.page(), encoding="utf-8")
    """

    def __init__(self, model: PhotoClassifier, *, source: str | Path | None = None) -> None:
        """Empty.

        Args:
            model: what answers.
            source: its file.
        """
        self.model = model
        self.source = source
        self.selection = Selection(model.class_names)

    def add(self, prediction: Prediction) -> None:
        """Take in an answer."""
        self.selection.add(prediction)

    def page(self) -> str:
        """The page. Photos that it shows are read again, for their pictures and for reasons."""
        chosen, support = self.selection, support_of(self.model)
        groups = {"unsure": chosen.unsure, "unknown": chosen.unknowns, "sure": chosen.sure}
        every = [prediction for group in groups.values() for prediction in group]
        answers = iter(read_again(self.model, support, every))
        return render(
            "classify.html",
            {
                "chosen": chosen,
                "source": str(self.source) if self.source else None,
                "number_of_classes": len(self.model.class_names),
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
        """Answers with how often they came, and whether they are classes."""
        chosen = self.selection
        rows = [(label, count, True) for label, count in chosen.counts.most_common(_MOST_COUNTS)]
        others = [(UNKNOWN, chosen.unknown, False), ("failed", chosen.failed, False)]
        return [*rows, *(row for row in others if row[1])]


def _card(answer: Answer, support: SupportPhotos | None) -> dict[str, Any]:
    """An answer: the photo, what it is, what else it might be, and what it is like."""
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
    """Makes a report of answers that are written one by one."""

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
    """Write one HTML page on answers, whole or not at all.

    Args:
        model: what answered.
        predictions: the answers, taken one by one.
        path: ends in .html.
        source: the model's file.
        force: `path` may be there.

    Raises:
        UsageError: the path will not do.
        FewshotError: the page cannot be written.
    """
    path = Path(path)
    check_report(path, force=force)
    report = ClassifyReport(model, source=source)
    for prediction in predictions:
        report.add(prediction)
    write_page(path, report.page(), force=force)
    return path
