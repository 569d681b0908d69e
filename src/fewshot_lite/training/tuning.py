"""Supervised tuning of the upper stages of a trained backbone on many data sets at once.

A network trained on ImageNet knows photos of objects; from data sets of many domains it learns
drawings, signs and textures. The stages below the tuned ones are computed once per image, which
reduces hours to minutes. Against forgetting, features can be held near those of the anchor, the
original network, and the weights are averaged with its weights (Wortsman et al. 2022, "Robust
fine-tuning of zero-shot models"). Depthwise kernels and batch statistics are not changed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewshot_lite.core.config import switches_checked
from fewshot_lite.core.devices import pick_device
from fewshot_lite.core.errors import UsageError
from fewshot_lite.core.progress import Progress, Report
from fewshot_lite.core.random_streams import Stream, generator
from fewshot_lite.networks.backbone import Backbone, cast_for
from fewshot_lite.networks.stages import Staged
from fewshot_lite.networks.weights import load_backbone
from fewshot_lite.training.meta_setup import check_image_size, check_sets
from fewshot_lite.training.optimisation import set_learning_rate, split_decay, warmed_up_cosine
from fewshot_lite.training.supervised import (
    Run,
    SupervisedResult,
    TrainingImages,
    begin_run,
    open_sets,
)
from fewshot_lite.training.tune_config import TuneConfig

#: Images in a pass without gradients.
_PASS = 64
#: Most images of a class whose mean feature initialises its row of the head.
_FEW = 10
#: Initial temperature of the heads.
_TEMPERATURE = 16.0


@switches_checked
def tune(
    data: Path,
    output: Path,
    config: TuneConfig,
    *,
    device: str = "auto",
    resume: bool = False,
    force: bool = False,
    report: Report | None = None,
    notice: Callable[[str], None] | None = None,
) -> SupervisedResult:
    """Tune a backbone on the images of one or several data sets.

    Args:
        data: as for `training.supervised.open_sets`.
        output: the backbone, `config.strength` of the way from the anchor to the tuned weights.
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
    check_sets(folders, data, "--hold-set", config.hold_set)
    backbone, source = load_backbone(config.backbone, config.weights, config.image_size)
    size = backbone.image_size
    anchor = copy.deepcopy(backbone)
    if config.anchor is not None:
        anchor, _ = load_backbone(backbone.name, config.anchor, size, flag="--anchor")
    check_image_size(backbone, size)
    learned = _learned_parameters(backbone, anchor, config)
    images = TrainingImages(folders, size, config.no_flip, report)
    maps = _Maps(images, anchor.to(where), config, report)
    course = _Tuning(config, backbone.to(where), source, maps, learned)
    return Run(course, output, resume=resume, notice=notice).train(report)


def _learned_parameters(backbone: Backbone, anchor: Backbone, config: TuneConfig) -> set[str]:
    """Return the names in the network of the parameters to tune.

    Raises:
        UsageError: there are fewer stages, or the lower ones differ from the anchor's.
    """
    staged = Staged(backbone)
    below = len(staged.stages) - config.stages
    if below < 0:
        raise UsageError(
            f"--stages {config.stages}: {backbone.name} has {len(staged.stages)} stages."
        )
    names = [
        [name.removeprefix("backbone.network.") for name in stage]
        for stage in staged.parameter_names()
    ]
    state, anchor_state = backbone.network.state_dict(), anchor.network.state_dict()
    for name in (name for stage in names[:below] for name in stage):
        # The tolerance is for kernels that files store in half precision.
        if not torch.allclose(state[name], anchor_state[name], rtol=2e-3, atol=1e-4):
            raise UsageError(
                f"--anchor: its lower stages are not those of --weights ({name} differs). Give "
                "what the weights were tuned from, with the same --stages."
            )
    depthwise = {
        f"{name}.weight"
        for name, module in backbone.network.named_modules()
        if isinstance(module, nn.Conv2d) and module.groups > 1
    }
    return {name for stage in names[below:] for name in stage} - depthwise


class _Maps:
    """Feature maps of each image and its views below the tuned stages."""

    def __init__(
        self, images: TrainingImages, anchor: Backbone, config: TuneConfig, report: Report | None
    ) -> None:
        """Compute the maps on the anchor's device."""
        self.images, self.config = images, config
        self.where = anchor.mean.device
        self.cast = cast_for(anchor, self.where, config.precision)
        self.network = Staged(anchor.eval())
        self.start = len(self.network.stages) - config.stages
        self.kept = torch.empty(0)
        """float16 (N, 1 + views, C, H, W), on the CPU; the first view is the unaugmented image."""
        for rows in torch.arange(len(images)).split(_PASS):
            part = torch.stack([self._lower(view) for view in self._views(rows)], dim=1)
            if not len(self.kept):  # allocated once: all maps would not fit in memory twice
                self.kept = part.new_empty(len(images), *part.shape[1:])
            self.kept[rows] = part
            if report is not None:
                report(Progress(int(rows[-1]) + 1, len(images), "Computing lower stages"))

    def _views(self, rows: Tensor) -> list[Tensor]:
        size, where = self.network.backbone.image_size, self.where
        random = generator(self.config.seed, Stream.TUNING_VIEWS, int(rows[0]))
        views = [self.images.views(rows, size, random, where) for _ in range(self.config.views)]
        return [self.images.pixels(rows).to(where), *views]

    @torch.no_grad()
    def _lower(self, images: Tensor) -> Tensor:
        prepared = self.network.backbone.prepared(images)
        with self.cast():
            maps: Tensor = self.network(prepared, 0, self.start)
        return maps.half().cpu()

    def features(self, network: Staged, rows: Tensor, views: Tensor) -> Tensor:
        """Return features, float32 (B, d), of one view of each row, by the upper stages."""
        maps = self.kept[rows, views].to(self.where).float()
        maps = maps.contiguous(memory_format=torch.channels_last)
        with self.cast():
            features: Tensor = network(maps, self.start)
        return features.float()

    @torch.no_grad()
    def anchor_features(self) -> Tensor:
        """Return the anchor's features of all views, float32 (N, 1 + views, d)."""
        parts = []
        for rows in torch.arange(len(self.kept)).split(_PASS):
            views = [torch.full_like(rows, view) for view in range(self.kept.shape[1])]
            parts.append(torch.stack([self.features(self.network, rows, v) for v in views], dim=1))
        return torch.cat(parts)


class _CosineHeads(nn.Module):
    """Cosine classifiers: a row for each class of all data sets, and a temperature for each set."""

    def __init__(self, rows: Tensor, classes: Sequence[int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(rows)
        self.log_temperature = nn.Parameter(torch.full((len(classes),), _TEMPERATURE).log())
        sets = torch.arange(len(classes)).repeat_interleave(torch.tensor(classes))
        self.register_buffer("set_of_row", sets, persistent=False)
        self.set_of_row: Tensor

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (B, classes of all sets) of features (B, d)."""
        cosines = F.linear(F.normalize(features, dim=1), F.normalize(self.weight, dim=1))
        return self.log_temperature.exp()[self.set_of_row] * cosines


class _Tuning:
    """Trains the upper stages and the heads by AdamW, on maps of the stages below."""

    title = "Tuning"
    save_every = 200

    def __init__(
        self,
        config: TuneConfig,
        backbone: Backbone,
        source: dict[str, Any],
        maps: _Maps,
        learned: set[str],
    ) -> None:
        self.config, self.source, self.maps, self.learned = config, source, maps, learned
        self.images, self.total = maps.images, config.steps
        self.rows_by_class = _rows_by_class(self.images)
        self.network = Staged(backbone.eval())
        for name, parameter in backbone.network.named_parameters():
            parameter.requires_grad_(name in learned)
        heads = _CosineHeads(self._class_means(), self.images.classes).to(maps.where)
        self.module = nn.ModuleDict({"backbone": backbone, "heads": heads})
        parameters = [p for p in self.module.parameters() if p.requires_grad]
        groups = split_decay({"params": parameters, "peak": config.lr}, config.weight_decay)
        self.optimizer = torch.optim.AdamW(groups, lr=config.lr)
        held = [not config.hold_set or f.name in config.hold_set for f in self.images.folders]
        self.held = torch.tensor(held)[self.images.sets]
        if config.hold:
            self.anchor_features = maps.anchor_features()
            self.centre = self.anchor_features[self.held.to(maps.where)].flatten(0, 1).mean(0)

    def _class_means(self) -> Tensor:
        """Return unit mean features of a few images of each class, (classes of all sets, d)."""
        means = []
        for rows in (rows for classes in self.rows_by_class for rows in classes):
            few = rows[:_FEW]
            if not len(few):
                means.append(torch.zeros(self.network.backbone.feature_dim).to(self.maps.where))
                continue
            with torch.no_grad():
                features = self.maps.features(self.network, few, torch.zeros_like(few))
            means.append(F.normalize(F.normalize(features, dim=1).mean(0), dim=0))
        return torch.stack(means)

    def take_step(self, step: int) -> tuple[dict[str, float], dict[str, float]]:
        """Train on images of a few data sets, one view of each."""
        config = self.config
        random = generator(config.seed, Stream.TUNING_BATCHES, step)
        rows = self._draw(random)
        views = torch.randint(self.maps.kept.shape[1], (len(rows),), generator=random)
        warmup = max(1, self.total // 20)
        set_learning_rate(self.optimizer, warmed_up_cosine(step, warmup, self.total))
        features = self.maps.features(self.network, rows, views)
        logits = self.module["heads"](features)
        loss, values = self.images.cross_entropy(logits, rows, config.label_smoothing)
        if config.hold:
            strayed = self._strayed(features, rows, views)
            values["strayed"] = strayed.item()
            loss = loss + config.hold * strayed
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return values, {}

    def _draw(self, random: torch.Generator) -> Tensor:
        """Draw `batch_size` images from each of `sets_per_step` sets, uniformly over classes."""
        usable = [[rows for rows in classes if len(rows)] for classes in self.rows_by_class]
        usable = [classes for classes in usable if len(classes) > 1]
        drawn = []
        for number in torch.randperm(len(usable), generator=random)[: self.config.sets_per_step]:
            classes = usable[int(number)]
            for k in torch.randint(len(classes), (self.config.batch_size,), generator=random):
                rows = classes[int(k)]
                drawn.append(rows[int(torch.randint(len(rows), (), generator=random))])
        return torch.stack(drawn)

    def _strayed(self, features: Tensor, rows: Tensor, views: Tensor) -> Tensor:
        """Return the mean of 1 - cos between centred features and the anchor's, on held sets."""
        held = self.held[rows]
        if not bool(held.any()):
            return features.new_zeros(())
        anchor = self.anchor_features[rows[held], views[held]] - self.centre
        tuned = features[held.to(features.device)] - self.centre
        return (1 - F.cosine_similarity(tuned, anchor, dim=1)).mean()

    def weights(self) -> tuple[Backbone, dict[str, Tensor], dict[str, Any]]:
        """Return the anchor's weights, averaged with the tuned ones."""
        backbone, anchor = self.network.backbone, self.maps.network.backbone
        tuned = backbone.network.state_dict()
        averaged = {
            name: value.lerp(tuned[name], self.config.strength) if name in self.learned else value
            for name, value in anchor.network.state_dict().items()
        }
        return backbone, averaged, {"start": self.source.get("weights")}


def _rows_by_class(images: TrainingImages) -> list[list[Tensor]]:
    """Return the rows of the images of each class, by data set."""
    sets: list[list[list[int]]] = [[[] for _ in range(count)] for count in images.classes]
    pairs = zip(images.sets.tolist(), images.labels.tolist(), strict=True)
    for row, (number, label) in enumerate(pairs):
        sets[number][label].append(row)
    return [[torch.tensor(rows, dtype=torch.long) for rows in classes] for classes in sets]
