"""Supervised training on images of several data sets: the images, the loop and its states.

`training.pretrain` trains a backbone from random weights, `training.tuning` the upper stages of a
trained one.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from fewshot_lite import __version__
from fewshot_lite.core import checkpoint
from fewshot_lite.core.errors import FewshotError
from fewshot_lite.core.progress import Progress, Report, counting
from fewshot_lite.core.stopping import StopRequest
from fewshot_lite.data.augment import Augmentation, random_views
from fewshot_lite.data.store import ImageStore
from fewshot_lite.images.folders import LabelledImages
from fewshot_lite.networks.backbone import Backbone, describe_backbone
from fewshot_lite.published.data_sets import scan_data_sets
from fewshot_lite.training import state as files
from fewshot_lite.training.log import Averages, Log
from fewshot_lite.training.meta_setup import check_sets, without_paths


@dataclass(frozen=True)
class SupervisedResult:
    """The result of a run."""

    output: Path
    finished: bool
    step: int
    total: int
    loss: float
    accuracy: float
    """On the last training images, all data sets together."""
    unreadable: int = 0
    """Photos that were left out; the log names them."""
    log: Path | None = None
    terminated: bool = False
    """Whether SIGTERM stopped it before it was finished."""


def begin_run(output: Path, *, resume: bool, force: bool) -> bool:
    """Check that a run may write its output, and return whether there is a state to resume from.

    Raises:
        UsageError: as `state.check_resume` with `resume`, else as `state.check_new_run`.
    """
    if resume:
        return files.check_resume(output)
    files.check_new_run(output, force=force)
    return False


def open_sets(data: Path, no_flip: Sequence[str], leave_out: float) -> list[LabelledImages]:
    """Open the data sets, restricted to the classes to train on.

    Args:
        data: an image folder or a collection of them (see `images.folders`), or converted data sets
            of Meta-Dataset, of which the TRAIN classes are used.
        no_flip: names of data sets that must not be mirrored.
        leave_out: share of the classes, evenly spaced, to leave out.

    Raises:
        UsageError, FewshotError: a data set does not exist, or there are too few classes.
    """
    folders = [_training_classes(folder, leave_out) for folder in scan_data_sets(data)]
    check_sets(folders, data, "--no-flip", no_flip)
    if all(len(folder.class_names) < 2 for folder in folders):
        raise FewshotError(
            f"{data}: too few classes to train on. At least two are needed in a data set, "
            "besides those that --leave-out leaves out."
        )
    return folders


class TrainingImages:
    """The images of all data sets, with the data set and class of each."""

    def __init__(
        self,
        folders: Sequence[LabelledImages],
        size: int,
        no_flip: Sequence[str],
        report: Report | None,
    ) -> None:
        """Read the images at `size` pixels a side."""
        self.folders = folders
        total = sum(len(folder.paths) for folder in folders)
        paths = [path for folder in folders for path in folder.paths]
        count = counting(report, total, "Reading photos")
        self.store = ImageStore(paths, size, on_done=count)
        good = [i for i in range(total) if i not in self.store.problems]
        if len(good) < 2:
            raise FewshotError("There are too few photos to train on that can be read.")
        sets = [number for number, folder in enumerate(folders) for _ in folder.paths]
        labels = [label for folder in folders for label in folder.labels]
        self.index = torch.tensor(good)
        self.sets = torch.tensor(sets)[self.index]
        self.labels = torch.tensor(labels)[self.index]
        may_flip = torch.tensor([folder.name not in no_flip for folder in folders])
        self.flip = may_flip[self.sets]

    def __len__(self) -> int:
        return len(self.index)

    @property
    def classes(self) -> list[int]:
        """Number of classes of each data set."""
        return [len(folder.class_names) for folder in self.folders]

    def pixels(self, batch: Tensor) -> Tensor:
        """Return the images of a batch, uint8 (B, 3, S, S)."""
        return self.store[self.index[batch].tolist()]

    def views(
        self, batch: Tensor, size: int, random: torch.Generator, device: torch.device
    ) -> Tensor:
        """Return augmented images of a batch, float (B, 3, size, size) in [0, 1]."""
        pixels = self.pixels(batch).to(device)
        return random_views(pixels, size, Augmentation(), self.flip[batch], random)

    def cross_entropy(
        self, logits: Tensor, batch: Tensor, smoothing: float
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the mean cross-entropy over the classes of each image's data set, and figures.

        Args:
            logits: (B, classes of all sets), set by set.
            batch: int64 (B,), indices of the images.
            smoothing: label smoothing.
        """
        labels, sets = (values[batch].to(logits.device) for values in (self.labels, self.sets))
        loss = logits.new_zeros(())
        correct = 0.0
        for number, columns in enumerate(logits.split(self.classes, dim=1)):
            in_set = sets == number
            if bool(in_set.any()):
                own, target = columns[in_set], labels[in_set]
                loss = loss + F.cross_entropy(
                    own, target, label_smoothing=smoothing, reduction="sum"
                )
                correct += float((own.argmax(1) == target).sum())
        loss = loss / len(logits)
        return loss, {"loss": loss.item(), "accuracy": correct / len(logits)}


class Course(Protocol):
    """A kind of training: pre-training or tuning."""

    config: Any
    images: TrainingImages
    total: int
    """Number of steps."""
    save_every: int
    """Steps between checkpoints."""
    title: str
    """Title of the progress bar."""

    @property
    def module(self) -> nn.Module:
        """All weights that a state stores."""

    @property
    def optimizer(self) -> Optimizer:
        """The optimiser, whose moments a state stores as well."""

    def take_step(self, step: int) -> tuple[dict[str, float], dict[str, float]]:
        """Take an optimiser step; return loss and accuracy, and facts to report beside them."""

    def weights(self) -> tuple[Backbone, dict[str, Tensor], dict[str, Any]]:
        """Return the backbone, its network's state dict to write, and a record of its origin."""


class Run:
    """A run, new or resumed."""

    def __init__(
        self, course: Course, output: Path, *, resume: bool, notice: Callable[[str], None] | None
    ) -> None:
        """Restore the last checkpoint, if `resume` is set; open the log."""
        self.course, self.output, images = course, output, course.images
        counts = {"images": len(images), "classes": sum(images.classes)}
        self.settings = asdict(course.config) | counts
        self.step, self.averages, damaged = 0, Averages(), ""
        if resume:
            path, damaged = files.find_state(files.state_path(output))
            state = files.load_state(path, course.module, course.optimizer, self.settings)
            self.step, self.averages = state.step, Averages(**state.notes["averages"])
        self.log = Log(files.log_path(output), append=resume)
        facts = {"step": self.step, "config": self.settings}
        self.log.begin(damaged=damaged, unreadable=images.store.unreadable, notice=notice, **facts)

    def train(self, report: Report | None) -> SupervisedResult:
        """Run the training loop; save every `save_every` steps and at the end."""
        course, averages, log, total = self.course, self.averages, self.log, self.course.total
        with contextlib.closing(log), StopRequest() as stop:
            while self.step < total and not stop:
                values, facts = course.take_step(self.step)
                self.step += 1
                averages.add(**values)
                if not math.isfinite(averages.values["loss"]):
                    raise FewshotError(
                        f"The loss is not finite at step {self.step}. Start anew with a lower --lr "
                        f"than {course.config.lr}."
                    )
                if self.step % 50 == 0 or self.step == total:
                    log.write(event="step", step=self.step, **facts, **averages.values)
                    if report is not None:
                        shown = {**averages.values, **facts}
                        report(Progress(self.step, total, course.title, shown))
                if self.step % course.save_every == 0 or self.step == total or stop:
                    self._save()
            log.write(event="end", step=self.step, finished=self.step == total)
        if self.step == total:
            files.clear(self.output)
        return SupervisedResult(
            self.output,
            self.step == total,
            self.step,
            total,
            averages.values.get("loss", math.nan),
            averages.values.get("accuracy", math.nan),
            len(course.images.store.problems),
            files.log_path(self.output),
            stop.terminated and self.step < total,
        )

    def _save(self) -> None:
        """Write state and backbone."""
        course = self.course
        notes = {"averages": asdict(self.averages)}
        state = files.state_path(self.output)
        files.save_state(state, course.module, course.optimizer, self.step, self.settings, notes)
        backbone, tensors, origin = course.weights()
        meta = {
            "version": __version__,
            **describe_backbone(backbone, backbone.image_size),
            **origin,
            "steps": [self.step, course.total],
            "training": without_paths(asdict(course.config)),
            "classes": {f.name: list(f.class_names) for f in course.images.folders},
            "figures": self.averages.values,
        }
        checkpoint.save(self.output, "backbone", tensors, meta, half=True)


def _training_classes(folder: LabelledImages, leave_out: float) -> LabelledImages:
    """Return the data set without a share of its classes, evenly spaced."""
    names = folder.class_names
    left_out = {int((i + 0.5) / leave_out) for i in range(len(names))} if leave_out else set()
    return folder.select({name for i, name in enumerate(names) if i not in left_out})
