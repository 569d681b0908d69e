"""Supervised pre-training: a backbone from pixels where none can be downloaded.

Several data sets share the backbone and have one linear head each. The image size grows during the
run (Tan & Le 2021, "EfficientNetV2", section 4): early epochs at small sizes cost a fraction. Or it
is drawn for each step, so that the backbone is good at several sizes.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewshot_lite import __version__
from fewshot_lite.core import checkpoint
from fewshot_lite.core.devices import autocast, pick_device
from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.progress import Progress, Report
from fewshot_lite.core.random_streams import Stream, generator
from fewshot_lite.core.stopping import StopRequest
from fewshot_lite.data.augment import Augmentation, random_views
from fewshot_lite.data.store import ImageStore
from fewshot_lite.images.folders import LabelledImages
from fewshot_lite.images.photo import Source
from fewshot_lite.networks.backbone import Backbone, has_depthwise_convolutions
from fewshot_lite.networks.weights import load_backbone
from fewshot_lite.published.data_sets import scan_data_sets
from fewshot_lite.training import state as files
from fewshot_lite.training.log import Averages, Log
from fewshot_lite.training.meta_setup import check_image_size, without_paths
from fewshot_lite.training.optimisation import cosine, set_learning_rate, split_decay
from fewshot_lite.training.pretrain_config import PretrainConfig


@dataclass(frozen=True)
class PretrainResult:
    """How a run ended."""

    output: Path
    finished: bool
    step: int
    total: int
    loss: float
    accuracy: float
    """On the last images trained on, all data sets together."""
    unreadable: int = 0
    """Photos that were left out; the log names them."""
    log: Path | None = None
    terminated: bool = False
    """Stopped by SIGTERM."""


class _Supervised(nn.Module):
    """Backbone and the heads of all data sets, side by side in one layer."""

    def __init__(self, backbone: Backbone, classes: Sequence[int]) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.feature_dim, sum(classes))
        nn.init.zeros_(self.head.weight)  # deterministic, and as good a start as any for one layer
        nn.init.zeros_(self.head.bias)
        ends = torch.tensor(classes).cumsum(0).tolist()
        self.columns = [slice(e - n, e) for e, n in zip(ends, classes, strict=True)]


def pretrain(
    data: Path,
    output: Path,
    config: PretrainConfig,
    *,
    device: str = "auto",
    resume: bool = False,
    force: bool = False,
    report: Report | None = None,
    notice: Callable[[str], None] | None = None,
) -> PretrainResult:
    """Train a backbone to classify the images of a folder, or of several.

    Args:
        data: an image folder or a collection of them (see `images.folders`), or converted data sets
            of Meta-Dataset, of which the TRAIN classes are taken.
        output: the backbone, written at the end of each epoch.
        resume: go on with the run that wrote `output`'s state.
        report: called with progress.
        notice: called with what a person should know, e.g. that a state was damaged.

    Raises:
        UsageError, FewshotError: bad configuration, data or output.
    """
    config.check()
    if resume:
        resume = files.check_resume(output)
    else:
        files.check_new_run(output, force=force)
    where = pick_device(device)
    folders = _open(data, config)
    backbone, source = load_backbone(
        config.backbone, config.weights, config.image_size, seed=config.seed
    )
    for size in (config.min_image_size, config.image_size):
        check_image_size(backbone, size)
    run = _Run(config, output, backbone, source, _Images(folders, config, report), where)
    run.begin(resume=resume, notice=notice)
    return run.train(report)


def _open(data: Path, config: PretrainConfig) -> list[LabelledImages]:
    """The classes to train on, by data set."""
    folders = [_trained_on(folder, config.leave_out) for folder in scan_data_sets(data)]
    unknown = set(config.no_flip) - {folder.name for folder in folders}
    if unknown:
        raise UsageError(f"--no-flip {min(unknown)}: there is no such data set in {data}.")
    if all(len(folder.class_names) < 2 for folder in folders):
        raise FewshotError(
            f"{data}: too few classes to train on. At least two are needed in a data set, "
            "besides those that --leave-out leaves out."
        )
    return folders


class _Run:
    """A run, from its first step or from its last checkpoint on."""

    def __init__(
        self,
        config: PretrainConfig,
        output: Path,
        backbone: Backbone,
        source: dict[str, Any],
        images: _Images,
        where: torch.device,
    ) -> None:
        self.config, self.output, self.source = config, output, source
        self.images, self.where = images, where
        self.model = _Supervised(backbone, [len(f.class_names) for f in images.folders])
        self.model.to(where).to(memory_format=torch.channels_last)
        groups = {"params": self.model.parameters(), "peak": config.lr}
        self.optimizer = torch.optim.SGD(
            split_decay(groups, config.weight_decay), lr=config.lr, momentum=0.9, nesterov=True
        )
        self.steps_per_epoch = max(1, len(images) // config.batch_size)
        self.total = self.steps_per_epoch * config.epochs
        self.settings = asdict(config)
        self.settings |= {"images": len(images), "classes": len(self.model.head.bias)}
        self.depthwise = has_depthwise_convolutions(backbone)
        self.step, self.averages = 0, Averages()

    def begin(self, *, resume: bool, notice: Callable[[str], None] | None) -> None:
        """Go on from the last checkpoint, if that is wanted; open the log."""
        reason = ""
        if resume:
            found, reason = files.find_state(files.state_path(self.output))
            state = files.load_state(found, self.model, self.optimizer, self.settings)
            self.step, self.averages = state.step, Averages(**state.notes["averages"])
        self.log = log = Log(files.log_path(self.output), append=resume)
        log.write(event="start", step=self.step, config=self.settings, torch=torch.__version__)
        if reason:
            log.write(event="damaged state", reason=reason)
            if notice is not None:
                notice(reason)
        for path, problem in self.images.unreadable:
            log.write(event="unreadable", path=path, reason=problem)

    def train(self, report: Report | None) -> PretrainResult:
        """The loop; state and backbone are written at the end of each epoch."""
        config, total, averages, log = self.config, self.total, self.averages, self.log
        with contextlib.closing(log), StopRequest() as stop:
            while self.step < total and not stop:
                epoch = self.step // self.steps_per_epoch
                random = generator(config.seed, Stream.PRETRAIN_ORDER, epoch)
                order = torch.randperm(len(self.images), generator=random)
                for position in range(self.step % self.steps_per_epoch, self.steps_per_epoch):
                    batch = order[position * config.batch_size :][: config.batch_size]
                    size = self._take_step(batch, epoch)
                    step = self.step
                    if step % 50 == 0 or step == total:
                        values = averages.values
                        log.write(event="step", step=step, epoch=epoch, image_size=size, **values)
                        if report is not None:
                            report(Progress(step, total, "Pre-training", {**values, "px": size}))
                    if stop:
                        break
                self._save()
            log.write(event="end", step=self.step, finished=self.step == total)
        if self.step == total:
            files.clear(self.output)
        return PretrainResult(
            self.output,
            self.step == total,
            self.step,
            total,
            averages.values.get("loss", math.nan),
            averages.values.get("accuracy", math.nan),
            len(self.images.unreadable),
            files.log_path(self.output),
            stop.terminated and self.step < total,
        )

    def _take_step(self, batch: Tensor, epoch: int) -> int:
        """Learn from a batch of images, int64 (B,); returns the size that they were seen at."""
        config, model = self.config, self.model
        random = generator(config.seed, Stream.PRETRAIN_VIEWS, self.step)
        size = _image_size(config, epoch, random)
        views = self.images.views(batch, size, random, self.where)
        set_learning_rate(self.optimizer, _schedule(self.step, self.total, self.steps_per_epoch))
        model.train()
        with autocast(self.where, config.precision, depthwise=self.depthwise):
            features = model.backbone(views)
        loss, correct = _loss(model, features, self.images, batch, config.label_smoothing)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.step += 1
        self.averages.add(loss=loss.item(), accuracy=correct / len(batch))
        if not math.isfinite(self.averages.values["loss"]):
            raise FewshotError(
                f"The loss is not finite at step {self.step}. Start anew with a lower --lr "
                f"than {config.lr}."
            )
        return size

    def _save(self) -> None:
        """Write state and backbone."""
        notes = {"averages": asdict(self.averages)}
        state = files.state_path(self.output)
        files.save_state(state, self.model, self.optimizer, self.step, self.settings, notes)
        backbone = self.model.backbone
        meta = {
            "version": __version__,
            "backbone": backbone.name,
            "image_size": self.config.image_size,
            "mean": backbone.mean.flatten().tolist(),
            "std": backbone.std.flatten().tolist(),
            "start": self.source.get("weights"),
            "steps": [self.step, self.total],
            "training": without_paths(asdict(self.config)),
            "classes": {f.name: list(f.class_names) for f in self.images.folders},
            "figures": self.averages.values,
        }
        checkpoint.save(self.output, "backbone", backbone.network.state_dict(), meta, half=True)


class _Images:
    """The images of all data sets, with the data set and class of each."""

    def __init__(
        self, folders: Sequence[LabelledImages], config: PretrainConfig, report: Report | None
    ) -> None:
        self.folders = folders
        total = sum(len(folder.paths) for folder in folders)

        def count(done: int) -> None:
            if report is not None and (done % 100 == 0 or done == total):
                report(Progress(done, total, "Reading photos"))

        self.store = ImageStore(
            [path for folder in folders for path in folder.paths],
            config.image_size,
            on_done=count,
        )
        good = [i for i in range(total) if i not in self.store.problems]
        if len(good) < 2:
            raise FewshotError("There are too few photos to train on that can be read.")
        sets = [number for number, folder in enumerate(folders) for _ in folder.paths]
        labels = [label for folder in folders for label in folder.labels]
        self.index = torch.tensor(good)
        self.sets = torch.tensor(sets)[self.index]
        self.labels = torch.tensor(labels)[self.index]
        may_flip = torch.tensor([folder.name not in config.no_flip for folder in folders])
        self.flip = may_flip[self.sets]

    def __len__(self) -> int:
        return len(self.index)

    @property
    def unreadable(self) -> list[tuple[Source, str]]:
        """Photos left out, each with its reason."""
        return [(self.store.paths[i], reason) for i, reason in self.store.problems.items()]

    def views(
        self, batch: Tensor, size: int, random: torch.Generator, device: torch.device
    ) -> Tensor:
        """Augmented images of a batch: float (B, 3, size, size) in [0, 1]."""
        pixels = self.store[self.index[batch].tolist()].to(device)
        return random_views(pixels, size, Augmentation(), self.flip[batch], random)


def _trained_on(folder: LabelledImages, leave_out: float) -> LabelledImages:
    """The classes to train on: all but evenly spaced ones that make up the share left out."""
    names = folder.class_names
    left_out = {int((i + 0.5) / leave_out) for i in range(len(names))} if leave_out else set()
    return folder.select({name for i, name in enumerate(names) if i not in left_out})


def _image_size(config: PretrainConfig, epoch: int, random: torch.Generator) -> int:
    """Grows linearly over the epochs, in steps of 16 pixels, or is drawn, in steps of 32."""
    if config.mixed_sizes:
        choices = (config.image_size - config.min_image_size) // 32 + 1
        return config.image_size - 32 * int(torch.randint(choices, (), generator=random))
    share = min(1.0, epoch / max(1.0, 0.8 * (config.epochs - 1)))
    steps = (config.image_size - config.min_image_size) // 16
    return config.image_size - 16 * (steps - min(steps, int(share * (steps + 1))))


def _schedule(step: int, total: int, warmup: int) -> float:
    """Share of the learning rate: linear warm-up over one epoch, then a cosine to zero."""
    warmup = min(warmup, max(1, total // 5))
    return (step + 1) / warmup if step < warmup else cosine(step - warmup, total - warmup)


def _loss(
    model: _Supervised, features: Tensor, images: _Images, batch: Tensor, smoothing: float
) -> tuple[Tensor, float]:
    """Mean cross-entropy, each image against the classes of its own data set, and correct count."""
    logits = model.head(features)  # (B, classes of all sets)
    labels, sets = images.labels[batch].to(logits.device), images.sets[batch].to(logits.device)
    loss = logits.new_zeros(())
    correct = 0.0
    for number, columns in enumerate(model.columns):
        mine = sets == number
        if not bool(mine.any()):
            continue
        own, target = logits[mine][:, columns], labels[mine]
        loss = loss + F.cross_entropy(own, target, label_smoothing=smoothing, reduction="sum")
        correct += float((own.argmax(1) == target).sum())
    return loss / len(batch), correct
