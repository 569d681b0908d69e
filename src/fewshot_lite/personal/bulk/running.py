"""Classify files and write the answers, once or for as long as photos arrive."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Unpack

from fewshot_lite.core.errors import UsageError
from fewshot_lite.core.files import check_there
from fewshot_lite.images.folders import Skipped
from fewshot_lite.images.kinds import NOT_ASKED_FOR
from fewshot_lite.images.photo import Source
from fewshot_lite.personal.bulk.outputs import Outputs, Sink
from fewshot_lite.personal.bulk.watching import Watcher
from fewshot_lite.personal.classifier import ClassifyOptions, PhotoClassifier
from fewshot_lite.personal.prediction import Prediction


@dataclass
class Tally:
    """Counts of a run."""

    files: int = 0
    """Files with an answer or a problem."""
    failed: int = 0
    """Photos, and files that were named themselves, with a problem."""
    skipped: int = 0
    """Files in folders that are no photos."""
    labels: Counter[str] = field(default_factory=Counter)
    """Photos of each class, and unknown ones, without those that the model was adapted to."""
    adapted_to: int = 0
    """Photos that the model was adapted to."""
    placed: int = 0
    """Photos copied or linked into class folders."""
    left: int = 0
    """Photos that were there already."""
    moved: int = 0
    """Copies that were moved to another class."""
    in_two_classes: int = 0
    """Earlier copies that lie in another class than the photo's present one; ..."""
    twice: tuple[tuple[Path, Path], ...] = ()
    """... the first of them: the photo's place in its class, and the earlier copy."""

    def add(self, prediction: Prediction) -> None:
        """Count an answer."""
        self.files += 1
        other = prediction.problem in NOT_ASKED_FOR
        self.skipped += other
        self.failed += prediction.problem is not None and not other
        self.adapted_to += prediction.adapted_to
        if prediction.label is not None and not prediction.adapted_to:
            self.labels[prediction.label] += 1


#: Called with each answer and the tally so far.
OnPrediction = Callable[[Prediction, Tally], None]


def classify_files(
    model: PhotoClassifier,
    paths: Iterable[Source | Skipped],
    outputs: Outputs | None = None,
    *,
    on_prediction: OnPrediction | None = None,
    **options: Unpack[ClassifyOptions],
) -> Tally:
    """Classify files and write the answers, with a few batches in memory at a time.

    Args:
        model: the model.
        paths: photos, e.g. from `find_photos`, read lazily.
        outputs: the files to write; `Outputs.check` refuses wrong ones beforehand.
        on_prediction: called with each answer after it was written.
        options: as for `PersonalModel.classify`; with `every` CSV has a row for each moment of a
            video.

    Raises:
        FewshotError: an output could not be written; then none of the files is there.
    """
    outputs = outputs or Outputs()
    tally = Tally()
    with outputs.open(model, options) as sink:
        _write(model.classify_stream(paths, **options), sink, tally, on_prediction)
    return tally


def watch_folders(
    model: PhotoClassifier,
    folders: Sequence[Path],
    outputs: Outputs | None = None,
    *,
    on_prediction: OnPrediction | None = None,
    stopped: Callable[[], bool],
    interval: float = 1.0,
    **options: Unpack[ClassifyOptions],
) -> Tally:
    """Classify the photos in folders, and those that arrive later; see `Watcher`.

    Files are written in place, each answer at once. The other arguments are those of
    `classify_files`.

    Args:
        folders: searched with all that is below them.
        stopped: polled; True ends the run after the photos under way.
        interval: the least number of seconds between looks; more if a look took longer.

    Raises:
        UsageError: one of them is no folder.
        FewshotError: an output could not be written.
    """
    check_watched(folders)
    outputs = outputs or Outputs()
    watcher = Watcher(folders, leave_out=outputs.paths)
    tally = Tally()
    with outputs.open(model, options, live=True) as sink:
        while not stopped():
            start = time.monotonic()
            arrived = takewhile(lambda _: not stopped(), watcher.look())
            _write(model.classify_stream(arrived, **options), sink, tally, on_prediction)
            now = time.monotonic()
            until = now + max(interval, now - start)
            while not stopped() and (left := until - time.monotonic()) > 0:
                time.sleep(min(left, 0.1))
    return tally


def check_watched(paths: Iterable[Path]) -> None:
    """Raise a UsageError for a path that is no folder."""
    for path in paths:
        check_there(path, f"--watch {path}", "no such folder")
        if not path.is_dir():
            raise UsageError(f"--watch: {path} is no folder. Give folders that photos arrive in.")


def _write(
    answers: Iterable[Prediction],
    sink: Sink,
    tally: Tally,
    on_prediction: OnPrediction | None,
) -> None:
    for answer in answers:
        written = sink.take(answer)
        tally.add(written)
        if (sorter := sink.sorter) is not None:
            tally.placed, tally.left, tally.moved = sorter.placed, sorter.left, sorter.moved
            tally.in_two_classes, tally.twice = sorter.in_two_classes, tuple(sorter.twice)
        if on_prediction is not None:
            on_prediction(written, tally)
