"""The outputs of a run besides the terminal: checked before the work, opened together."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fewshot_lite.core.errors import UsageError
from fewshot_lite.core.files import check_output, check_writable
from fewshot_lite.images.kinds import check_table_name
from fewshot_lite.personal.bulk.sorting import Sorter, SortingProblem
from fewshot_lite.personal.bulk.writers import (
    STDOUT,
    CsvWriter,
    JsonLinesWriter,
    JsonWriter,
    Output,
    Writer,
    open_output,
)
from fewshot_lite.personal.prediction import Prediction
from fewshot_lite.personal.report.page import check_page_name

if TYPE_CHECKING:
    from fewshot_lite.personal.classifier import ClassifyOptions, PhotoClassifier


@dataclass(frozen=True)
class Outputs:
    """Files and folders that a run writes; any of them together, but one at most on stdout."""

    csv: Path | None = None
    """A file with a row for each photo; `STDOUT`, "-", for standard output, as below."""
    jsonl: Path | None = None
    """A file with a JSON object a line."""
    json: Path | None = None
    """A file with one JSON array."""
    sort_into: Path | None = None
    """A folder to copy photos into, by class."""
    link: bool = False
    """Make symbolic links instead of copies."""
    resort: bool = False
    """Move copies of an earlier run in `sort_into` whose class has changed."""
    force: bool = False
    """Overwrite existing files; in `sort_into` nothing ever is."""
    report: Path | None = None
    """An HTML page with a selection of the photos; written at the end, also when watching."""
    source: Path | None = None
    """The model's file, named in the report."""

    @property
    def _answers(self) -> dict[str, Path]:
        named = {"--csv": self.csv, "--jsonl": self.jsonl, "--json": self.json}
        return {flag: path for flag, path in named.items() if path is not None}

    @property
    def answer_files(self) -> dict[str, Path]:
        """The files that get all answers, by their flags."""
        return {flag: path for flag, path in self._answers.items() if path != STDOUT}

    @property
    def files(self) -> dict[str, Path]:
        """All files by their flags."""
        return self.answer_files | ({"--report": self.report} if self.report else {})

    @property
    def on_stdout(self) -> list[str]:
        """The flags of the outputs on standard output."""
        return [flag for flag, path in self._answers.items() if path == STDOUT]

    @property
    def paths(self) -> list[Path]:
        """All paths that are written, which the search for photos leaves out."""
        return [*self.files.values(), *([self.sort_into] if self.sort_into else [])]

    def check(self, inputs: Iterable[Path], model: Path | None = None) -> None:
        """Refuse outputs that cannot be written, or that would overwrite an input.

        Args:
            inputs: photos and folders.
            model: the model's file.

        Raises:
            UsageError: says what to change.
        """
        if len(self.on_stdout) > 1:
            flags = " and ".join(self.on_stdout)
            raise UsageError(f"{flags}: only one can go to stdout. Name a file for the other.")
        taken = {os.path.realpath(path): str(path) for path in inputs if not os.path.isdir(path)}
        if model is not None:
            taken[os.path.realpath(model)] = "the model"
        if self.report is not None:
            check_page_name(self.report)
        for flag, path in self.files.items():
            real = os.path.realpath(path)
            if real in taken:
                raise UsageError(f"{flag} {path}: the same file as {taken[real]}. Name another.")
            if flag != "--report":
                check_table_name(path, flag)
            taken[real] = flag
            check_output(path, force=self.force, flag=flag, stream=True)
        if self.sort_into is None:
            for flag, is_set in (("--link", self.link), ("--resort", self.resort)):
                if is_set:
                    raise UsageError(f"{flag}: for --sort-into DIR alone.")
            return
        self._check_folder(self.sort_into, inputs, taken)

    def _check_folder(self, folder: Path, inputs: Iterable[Path], taken: dict[str, str]) -> None:
        real = os.path.realpath(folder)
        if real in taken:
            raise UsageError(f"--sort-into {folder}: the same path as {taken[real]}. Name another.")
        home = folder if os.path.lexists(folder) else folder.absolute().parent
        check_writable(home, f"--sort-into {folder}")
        for path in inputs:
            inside = os.path.realpath(path)
            if inside == real or inside.startswith(real.rstrip(os.sep) + os.sep):
                raise UsageError(
                    f"--sort-into {folder}: {path} is or lies in it. Give a folder beside the "
                    "photos, or one inside theirs, which is then left out."
                )

    @contextmanager
    def open(
        self, model: PhotoClassifier, options: ClassifyOptions, *, live: bool = False
    ) -> Iterator[Sink]:
        """Open all outputs; files appear, complete, if the block ends without an error.

        Args:
            model: the model that answers.
            options: as for `classify_files`.
            live: write files in place, row by row, so that others can read along.

        Raises:
            FewshotError: an output cannot be written.
        """
        pairs = min(options.get("top", 3), len(model.class_names))
        moments = options.get("every") is not None
        makers: dict[str, Callable[[Output], Writer]] = {
            "--csv": lambda stream: CsvWriter(stream, pairs, moments=moments),
            "--jsonl": JsonLinesWriter,
            "--json": JsonWriter,
        }
        named = dict(self._answers)
        if self.report is not None:
            from fewshot_lite.personal.report.classifying import ClassifyReport, PageWriter

            report = ClassifyReport(model, source=self.source)
            makers["--report"] = lambda stream: PageWriter(report, stream)
            named["--report"] = self.report
        with ExitStack() as stack:
            writers = []
            for flag, path in named.items():
                in_place = live and flag != "--report"
                output = open_output(path, flag, live=in_place, force=self.force)
                writers.append(makers[flag](stack.enter_context(output)))
            sorter = None
            if self.sort_into is not None:
                names = model.class_names
                sorter = Sorter(self.sort_into, names, link=self.link, resort=self.resort)
                stack.callback(sorter.close)
            yield Sink(writers, sorter)
            for writer in writers:
                writer.end()


class Sink:
    """Opened outputs."""

    def __init__(self, writers: Sequence[Writer], sorter: Sorter | None) -> None:
        self._writers = writers
        self.sorter = sorter

    def take(self, prediction: Prediction) -> Prediction:
        """Sort the photo into its folder and write the answer.

        Returns:
            The answer, with a problem if the photo could not be sorted.
        """
        if self.sorter is not None and prediction.path is not None and prediction.label is not None:
            try:
                self.sorter.place(prediction.path, prediction.label)
            except SortingProblem as problem:
                prediction = replace(prediction, problem=str(problem))
        for writer in self._writers:
            writer.write(prediction)
        return prediction
