"""The report on classifying: counts, the least and the most sure answers, unknowns, failures.

Answers pass one by one and few are kept, so that memory and the page do not grow with the number of
files. Importing this does not import torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from fewshot_lite.personal.prediction import UNKNOWN, Prediction
from fewshot_lite.personal.report import page
from fewshot_lite.personal.report.answers import cards
from fewshot_lite.personal.report.html import Html, el, join, name
from fewshot_lite.personal.report.looking import Model, as_personal, look_at
from fewshot_lite.personal.report.page import counted, percent, section, stat, table
from fewshot_lite.personal.report.selection import MOST_FAILED, SHOWN, Selection
from fewshot_lite.personal.report.writing import check_report, write_page

if TYPE_CHECKING:
    from fewshot_lite.personal.bulk.writers import Output
    from fewshot_lite.personal.report.support import Support

#: Classes of which counts are listed.
_MOST_COUNTS = 200

_WORDS = {
    "unsure": (
        "Least sure",
        "The answers with the smallest probabilities. Wrong ones are likeliest here.",
    ),
    "unknown": (
        "Unknown",
        "Too unlike all of the model's photos. First come those that were nearly named: if they "
        "are yours after all, add them to their class.",
    ),
    "sure": ("Most sure", "The surest answers of each class in turn."),
}


class ClassifyReport:
    """Takes in answers, and then is a page.

    report = ClassifyReport(personal)
    for prediction in personal.classify_stream(paths):
        report.add(prediction)
    Path("report.html").write_text(report.page(), encoding="utf-8")
    """

    def __init__(self, model: Model, *, source: str | Path | None = None) -> None:
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
        chosen, support = self.selection, self._support()
        groups = {"unsure": chosen.unsure, "unknown": chosen.unknowns, "sure": chosen.sure}
        seen = iter(look_at(self.model, [p for group in groups.values() for p in group]))
        sections = {"counts": section("counts", "Counts", _bounds(chosen), self._counts())}
        links = [("counts", "Counts")]
        for key, group in groups.items():
            if group:
                title, words = _WORDS[key]
                items = cards([next(seen) for _ in group], support)
                sections[key] = section(key, title, el("p", words, class_="soft"), items)
                links.append((key, title))
        if chosen.failed:
            sections["failed"] = section("failed", "Failed", _failed(chosen))
            links.append(("failed", "Failed"))
        head = page.header(
            "Report on classifying",
            Html(counted(chosen.files, "file")),
            join("named by ", name(str(self.source))) if self.source else Html(""),
            self._stats(),
            page.contents(links),
        )
        return page.page(
            "Report on classifying", head, sections.values(), page.footer(_on_reasons(support))
        )

    def _support(self) -> Support | None:
        personal = as_personal(self.model)
        if personal is None:
            return None
        from fewshot_lite.personal.report.support import Support

        return Support.of(personal)

    def _stats(self) -> list[Html]:
        chosen = self.selection
        return [
            stat(f"{sum(chosen.counts.values()):,}", "named"),
            stat(f"{chosen.unknown:,}", "unknown", look=chosen.unknown > 0),
            stat(f"{chosen.failed:,}", "failed", look=chosen.failed > 0),
            stat(f"{len(chosen.counts):,}", f"of {len(self.model.class_names):,} classes found"),
        ]

    def _counts(self) -> Html:
        """A row for each class that was found, with a bar."""
        chosen = self.selection
        entries: list[tuple[Html, int, str | None]] = [
            (name(label), count, None) for label, count in chosen.counts.most_common(_MOST_COUNTS)
        ]
        for words, count in ((UNKNOWN, chosen.unknown), ("failed", chosen.failed)):
            if count:
                entries.append((el("i", words), count, "none"))
        largest = max((count for _, count, _ in entries), default=1)
        rows = (
            (
                label,
                _bar(count / largest, kind),
                f"{count:,}",
                percent(count / chosen.files),
            )
            for label, count, kind in entries
        )
        missing = len(self.model.class_names) - len(chosen.counts)
        caption = "Files by answer."
        if missing:
            caption += f" {counted(missing, 'class', 'classes')} had none."
        if len(chosen.counts) > _MOST_COUNTS:
            caption += f" The {_MOST_COUNTS} most frequent classes are listed."
        return table(caption, ("answer", "", "files", "share"), rows, numbers=2)


class PageWriter:
    """Makes a report of answers that are written one by one, as `bulk.writers` does its files."""

    def __init__(self, report: ClassifyReport, stream: Output) -> None:
        self._report = report
        self._stream = stream

    def write(self, prediction: Prediction) -> None:
        """Take in an answer."""
        self._report.add(prediction)

    def end(self) -> None:
        """Write the page."""
        self._stream.write(self._report.page())


def write_classify_report(
    model: Model,
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


def _bar(share: float, kind: str | None) -> Html:
    length = el("i", style=f"width: {100 * share:.1f}%", class_=kind)
    return el("div", length, class_="bar", aria_hidden="true")


def _bounds(chosen: Selection) -> Html | None:
    """What is not shown."""
    if chosen.files <= SHOWN:
        return None
    words = (
        f"Of {chosen.files:,} files at most {SHOWN} are shown in each section, and at most "
        f"{MOST_FAILED} that failed are listed. All answers are in what "
    )
    flags = (el("code", "--csv"), ", ", el("code", "--jsonl"), " and ", el("code", "--json"))
    return el("p", words, *flags, " write.", class_="soft")


def _failed(chosen: Selection) -> Html:
    rows = ((name(str(p.path)), str(p.problem)) for p in chosen.failures)
    caption = f"{counted(chosen.failed, 'file')} had no answer, or could not be put in its folder."
    if chosen.failed > len(chosen.failures):
        common = ", ".join(f"{reason} ({n:,})" for reason, n in chosen.reasons.most_common(5))
        caption += f" The first {len(chosen.failures):,} are listed. The commonest: {common}."
    return table(caption, ("file", "why"), rows)


def _on_reasons(support: Support | None) -> Html:
    if support is None:
        words = (
            "The model was exported and keeps nothing of its photos, so no reasons can be shown. "
            "To see them, classify with the .safetensors file that it was exported from."
        )
        return el("p", words)
    words = (
        "Below an answer are those of the model's own photos that the photo is most like in the "
        "model's eyes; framed ones are of another class than the answer."
    )
    if not any(support.personal.thumbnails):
        words += " The model keeps no pictures of them, so they are named."
    return el("p", words)
