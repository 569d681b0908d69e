"""The demo: draw a few kinds of things, adapt to some of the drawings, classify the others."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fewshot_lite.core.config import COUNT, check_number, switches_checked
from fewshot_lite.core.errors import UsageError
from fewshot_lite.core.files import (
    DEFAULT_BASE,
    DEFAULT_PERSONAL,
    as_path,
    check_writable,
    failing_as,
)
from fewshot_lite.core.intervals import wilson_interval
from fewshot_lite.demo.drawings import write_folder
from fewshot_lite.images.folders import is_system_name
from fewshot_lite.personal.meta_model import MetaModel

#: The kinds of things: all but mugs, which are hard to see in small images.
KINDS = ("fish", "guitar", "house", "key", "leaf", "umbrella")

#: The number of drawings that are classified at a time.
_BATCH = 16


@dataclass(frozen=True)
class DemoResult:
    """The outcome of a demo."""

    photos: Path
    """The folder of drawings to adapt to."""
    held_back: Path
    """The folder of drawings that were classified."""
    model: Path
    classes: tuple[str, ...]
    adapted_on: int
    correct: int
    total: int
    interval: tuple[float, float]
    """95 % Wilson interval of the accuracy."""
    seconds_to_adapt: float
    mistakes: tuple[tuple[Path, str], ...]
    """Misclassified drawings with their predicted classes."""

    @property
    def accuracy(self) -> float:
        """The share of the held-back drawings that were classified correctly."""
        return self.correct / self.total


@switches_checked
def run_demo(
    folder: str | Path,
    *,
    base: str | Path = DEFAULT_BASE,
    per_kind: int = 10,
    held_back: int = 10,
    seed: int = 0,
    force: bool = False,
    on_done: Callable[[int, int | None, str], None] | None = None,
) -> DemoResult:
    """Draw, adapt and classify in a new folder.

    Args:
        folder: the folder to create, with `photos/`, `held-back/` and a personal model.
        per_kind: drawings of each kind to adapt to.
        held_back: drawings of each kind to classify.
        force: replace the folder of an earlier demo.
        on_done: called with (drawings done, drawings in all, description).

    Raises:
        UsageError: the folder exists (without `force`), or is not one of a demo (with it); or a
            number of drawings below 1.
    """
    check_number("per_kind", per_kind, COUNT)
    check_number("held_back", held_back, COUNT)
    folder = as_path(folder, "folder")
    report = on_done or (lambda *_: None)
    report(0, None, "Loading the model")
    model = MetaModel.load(base)  # before the folder is created, as it may fail
    _make_room(folder, force=force)
    drawn = write_folder(
        folder / "photos",
        KINDS,
        per_kind + held_back,
        seed,
        on_done=lambda done, total: report(done, total, "Drawing"),
    )
    for path in drawn:
        number = int(path.stem.rpartition("_")[2])
        if number > per_kind:
            target = folder / "held-back" / path.parent.name / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
    personal = model.adapt(
        folder / "photos",
        on_done=lambda done, total: report(done, total, "Reading photos"),
        on_embedded=lambda done, total: report(done, total, "Adapting"),
    )
    saved = personal.save(folder / DEFAULT_PERSONAL)
    rest = sorted((folder / "held-back").glob("*/*.jpg"))
    answers = []
    for answer in personal.classify_stream(rest, reject=None, batch=_BATCH):
        answers.append(answer)
        report(len(answers), len(rest), "Classifying")
    truth = [path.parent.name for path in rest]
    mistakes = tuple(
        (path, str(answer.label))
        for path, answer, name in zip(rest, answers, truth, strict=True)
        if answer.label != name
    )
    correct = len(rest) - len(mistakes)
    assert personal.adaptation is not None
    return DemoResult(
        photos=folder / "photos",
        held_back=folder / "held-back",
        model=saved,
        classes=personal.class_names,
        adapted_on=sum(personal.adaptation.used),
        correct=correct,
        total=len(rest),
        interval=wilson_interval(correct, len(rest)),
        seconds_to_adapt=personal.adaptation.seconds,
        mistakes=mistakes,
    )


def _make_room(folder: Path, *, force: bool) -> None:
    """Create the folder; with `force`, remove what an earlier demo left in it and nothing else."""
    if folder.is_dir():
        foreign = next((path for path in folder.rglob("*") if not _is_ours(folder, path)), None)
        if foreign is not None:
            raise UsageError(
                f"{folder}: holds {str(foreign.relative_to(folder))!r}, which is not the demo's. "
                "Give a new folder."
            )
        if any(folder.iterdir()) and not force:
            raise UsageError(f"{folder}: exists already. Use --force to draw it anew.")
        for name in ("photos", "held-back"):
            shutil.rmtree(folder / name, ignore_errors=True)
        (folder / DEFAULT_PERSONAL).unlink(missing_ok=True)
        return
    if folder.exists():
        raise UsageError(f"{folder}: a file. Give the name of a new folder.")
    check_writable(folder.absolute().parent, str(folder))
    with failing_as(folder, "cannot be created", UsageError):
        folder.mkdir()


def _is_ours(folder: Path, path: Path) -> bool:
    """Return whether a path in the folder is a demo's: a drawing, a folder of them, the model."""
    match path.relative_to(folder).parts:
        case ("photos" | "held-back",):
            return True
        case ("photos" | "held-back", kind):
            return kind in KINDS
        case ("photos" | "held-back", kind, name):
            return kind in KINDS and name.startswith(f"{kind}_") and path.suffix == ".jpg"
    return path == folder / DEFAULT_PERSONAL or is_system_name(path.name)
