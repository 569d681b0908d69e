"""Supervised pre-training of a backbone, where no pre-trained weights are available.

Several data sets share the backbone and have one linear head each. The image size grows during the
run (Tan & Le 2021, "EfficientNetV2", section 4), which makes early epochs cheap, or is drawn for
each step, so that the backbone works at several sizes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fewshot_lite.core.config import switches_checked
from fewshot_lite.core.devices import pick_device
from fewshot_lite.core.progress import Report
from fewshot_lite.core.random_streams import Stream, generator
from fewshot_lite.networks.backbone import Backbone, cast_for
from fewshot_lite.networks.weights import load_backbone
from fewshot_lite.training.meta_setup import check_image_size
from fewshot_lite.training.optimisation import set_learning_rate, split_decay, warmed_up_cosine
from fewshot_lite.training.pretrain_config import PretrainConfig
from fewshot_lite.training.supervised import (
    Run,
    SupervisedResult,
    TrainingImages,
    begin_run,
    open_sets,
)


@switches_checked
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
) -> SupervisedResult:
    """Train a backbone to classify the images of one or several data sets.

    Args:
        data: as for `open_sets`.
        output: the backbone, written at the end of each epoch.
        resume: continue the run that wrote `output`'s state.
        report: called with progress.
        notice: called with messages for the user, e.g. that a state was damaged.

    Raises:
        UsageError, FewshotError: invalid configuration, data or output.
    """
    config.check()
    resume = begin_run(output, resume=resume, force=force)
    where = pick_device(device)
    folders = open_sets(data, config.no_flip, config.leave_out)
    backbone, source = load_backbone(
        config.backbone, config.weights, config.image_size, seed=config.seed
    )
    check_image_size(backbone, config.image_size)
    check_image_size(backbone, config.min_image_size, "--min-image-size")
    images = TrainingImages(folders, config.image_size, config.no_flip, report)
    course = _Pretraining(config, backbone, source, images, where)
    return Run(course, output, resume=resume, notice=notice).train(report)


class _Pretraining:
    """Trains a backbone, and the heads of all data sets in one linear layer, by SGD in epochs."""

    title = "Pre-training"

    def __init__(
        self,
        config: PretrainConfig,
        backbone: Backbone,
        source: dict[str, Any],
        images: TrainingImages,
        where: torch.device,
    ) -> None:
        self.config, self.source = config, source
        self.images, self.where, self.backbone = images, where, backbone
        self.head = nn.Linear(backbone.feature_dim, sum(images.classes))
        nn.init.zeros_(self.head.weight)  # deterministic, and sufficient for a single layer
        nn.init.zeros_(self.head.bias)
        self.module = nn.ModuleDict({"backbone": backbone, "head": self.head})
        self.module.to(where).to(memory_format=torch.channels_last)
        groups = {"params": self.module.parameters(), "peak": config.lr}
        self.optimizer = torch.optim.SGD(
            split_decay(groups, config.weight_decay), lr=config.lr, momentum=0.9, nesterov=True
        )
        self.save_every = max(1, len(images) // config.batch_size)  # an epoch
        self.total = self.save_every * config.epochs
        self.cast = cast_for(backbone, where, config.precision)
        self.order = torch.empty(0, dtype=torch.long)
        self.epoch = -1

    def take_step(self, step: int) -> tuple[dict[str, float], dict[str, float]]:
        """Train on the next batch of the epoch."""
        config = self.config
        epoch, position = divmod(step, self.save_every)
        if epoch != self.epoch:
            order = generator(config.seed, Stream.PRETRAIN_ORDER, epoch)
            self.epoch, self.order = epoch, torch.randperm(len(self.images), generator=order)
        batch = self.order[position * config.batch_size :][: config.batch_size]
        random = generator(config.seed, Stream.PRETRAIN_VIEWS, step)
        size = _image_size(config, epoch, random)
        views = self.images.views(batch, size, random, self.where)
        warmup = min(self.save_every, max(1, self.total // 5))
        set_learning_rate(self.optimizer, warmed_up_cosine(step, warmup, self.total))
        self.module.train()
        with self.cast():
            features = self.backbone(views)
        logits = self.head(features)
        loss, values = self.images.cross_entropy(logits, batch, config.label_smoothing)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return values, {"epoch": epoch, "px": size}

    def weights(self) -> tuple[Backbone, dict[str, Tensor], dict[str, Any]]:
        """Return the backbone with its current weights."""
        state = self.backbone.network.state_dict()
        return self.backbone, state, {"start": self.source.get("weights")}


def _image_size(config: PretrainConfig, epoch: int, random: torch.Generator) -> int:
    """Return a size that grows linearly over epochs in steps of 16, or is drawn in steps of 32."""
    if config.mixed_sizes:
        choices = (config.image_size - config.min_image_size) // 32 + 1
        return config.image_size - 32 * int(torch.randint(choices, (), generator=random))
    share = min(1.0, epoch / max(1.0, 0.8 * (config.epochs - 1)))
    steps = (config.image_size - config.min_image_size) // 16
    return config.image_size - 16 * (steps - min(steps, int(share * (steps + 1))))
