"""Supervised tuning of the upper stages of a trained backbone on many data sets at once.

A network of ImageNet knows photos of things; drawings, signs and textures it learns from sets of
many domains. What lies below the stages that learn is computed once an image, so that hours become
minutes. So that it does not forget what it knew, features can be held to the former ones, and the
weights are averaged with them (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models").
Depthwise kernels and batch statistics stay as they are.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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

#: Images in a pass that needs no gradient.
_PASS = 64
#: Images of a class, at most, whose mean its row of the head begins at.
_FEW = 10
#: The heads' temperature at the start.
_TEMPERATURE = 16.0


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
    """Tune a backbone on the images of a folder, or of several.

    Args:
        data: as `training.supervised.open_sets` takes it.
        output: the backbone, `config.strength` of the way from the anchor to what was learned.
        resume: go on with the run that wrote `output`'s state.
        report: called with progress.
        notice: called with what a person should know, e.g. that a state was damaged.

    Raises:
        UsageError, FewshotError: bad configuration, data or output.
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
    learned = _learned(backbone, anchor, config)
    images = TrainingImages(folders, size, config.no_flip, report)
    maps = _Maps(images, anchor.to(where), config, report)
    run = Run(_Tuning(config, backbone.to(where), source, maps, learned), output)
    run.begin(resume=resume, notice=notice)
    return run.train(report)


def _learned(backbone: Backbone, anchor: Backbone, config: TuneConfig) -> set[str]:
    """Names in the network of the parameters that learn.

    Raises:
        UsageError: there are fewer stages, or what lies below them differs from the anchor.
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
    own, other = backbone.network.state_dict(), anchor.network.state_dict()
    for name in (name for stage in names[:below] for name in stage):
        # Files hold kernels in half precision.
        if not torch.allclose(own[name], other[name], rtol=2e-3, atol=1e-4):
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
    """What the stages below those that learn give for each image, as it is and in views."""

    def __init__(
        self, images: TrainingImages, anchor: Backbone, config: TuneConfig, report: Report | None
    ) -> None:
        """Compute them, on the anchor's device."""
        self.images, self.config = images, config
        self.where = anchor.mean.device
        self.cast = cast_for(anchor, self.where, config.precision)
        self.network = Staged(anchor.eval())
        self.start = len(self.network.stages) - config.stages
        self.kept = torch.empty(0)
        """float16 (N, 1 + views, C, H, W), on the CPU; the first view is the image as it is."""
        for rows in torch.arange(len(images)).split(_PASS):
            part = torch.stack([self._lower(view) for view in self._views(rows)], dim=1)
            if not len(self.kept):  # all at once: maps of many images would not fit twice
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
            found: Tensor = self.network(prepared, 0, self.start)
        return found.half().cpu()

    def features(self, network: Staged, rows: Tensor, views: Tensor) -> Tensor:
        """Features float32 (B, d) of one view of each row, by the upper stages of `network`."""
        maps = self.kept[rows, views].to(self.where).float()
        maps = maps.contiguous(memory_format=torch.channels_last)
        with self.cast():
            found: Tensor = network(maps, self.start)
        return found.float()

    @torch.no_grad()
    def all_features(self, network: Staged) -> Tensor:
        """Features of every view, float32 (N, 1 + views, d)."""
        return torch.cat(
            [
                torch.stack(
                    [
                        self.features(network, rows, torch.full_like(rows, view))
                        for view in range(self.kept.shape[1])
                    ],
                    dim=1,
                )
                for rows in torch.arange(len(self.kept)).split(_PASS)
            ]
        )


class _CosineHeads(nn.Module):
    """A row for each class of all data sets, and a temperature for each set."""

    def __init__(self, rows: Tensor, classes: Sequence[int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(rows)
        self.log_temperature = nn.Parameter(torch.full((len(classes),), _TEMPERATURE).log())
        of_row = torch.arange(len(classes)).repeat_interleave(torch.tensor(classes))
        self.register_buffer("set_of_row", of_row, persistent=False)
        self.set_of_row: Tensor

    def forward(self, features: Tensor) -> Tensor:
        """Logits (B, classes of all sets) of features (B, d)."""
        cosines = F.linear(F.normalize(features, dim=1), F.normalize(self.weight, dim=1))
        return self.log_temperature.exp()[self.set_of_row] * cosines


class _Tuning:
    """The upper stages and the heads, by AdamW, on maps of what lies below."""

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
        self.members = _members(self.images)
        self.network = Staged(backbone.eval())
        for name, parameter in backbone.network.named_parameters():
            parameter.requires_grad_(name in learned)
        heads = _CosineHeads(self._class_means(), self.images.classes).to(maps.where)
        self.module = nn.ModuleDict({"backbone": backbone, "heads": heads})
        own = [p for p in self.module.parameters() if p.requires_grad]
        groups = split_decay({"params": own, "peak": config.lr}, config.weight_decay)
        self.optimizer = torch.optim.AdamW(groups, lr=config.lr)
        held = [not config.hold_set or f.name in config.hold_set for f in self.images.folders]
        self.held = torch.tensor(held)[self.images.sets]
        if config.hold:
            self.former = maps.all_features(maps.network)
            self.centre = self.former[self.held.to(maps.where)].flatten(0, 1).mean(0)

    def _class_means(self) -> Tensor:
        """Unit means of few images of each class, (classes of all sets, d)."""
        means = []
        for rows in (rows for of_set in self.members for rows in of_set):
            few = rows[:_FEW]
            if not len(few):
                means.append(torch.zeros(self.network.backbone.feature_dim).to(self.maps.where))
                continue
            with torch.no_grad():
                features = self.maps.features(self.network, few, torch.zeros_like(few))
            means.append(F.normalize(F.normalize(features, dim=1).mean(0), dim=0))
        return torch.stack(means)

    def take_step(self, step: int) -> tuple[dict[str, float], dict[str, float]]:
        """Learn from images of a few data sets, one view of each."""
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
        """Rows of `batch_size` images from each of `sets_per_step` sets; classes weigh the same."""
        usable = [[rows for rows in of_set if len(rows)] for of_set in self.members]
        usable = [of_set for of_set in usable if len(of_set) > 1]
        drawn = []
        for number in torch.randperm(len(usable), generator=random)[: self.config.sets_per_step]:
            of_set = usable[int(number)]
            for k in torch.randint(len(of_set), (self.config.batch_size,), generator=random):
                rows = of_set[int(k)]
                drawn.append(rows[int(torch.randint(len(rows), (), generator=random))])
        return torch.stack(drawn)

    def _strayed(self, features: Tensor, rows: Tensor, views: Tensor) -> Tensor:
        """Mean of 1 - cos between centred features and the anchor's, of the sets that are held."""
        held = self.held[rows]
        if not bool(held.any()):
            return features.new_zeros(())
        former = self.former[rows[held], views[held]] - self.centre
        own = features[held.to(features.device)] - self.centre
        return (1 - F.cosine_similarity(own, former, dim=1)).mean()

    def weights(self) -> tuple[Backbone, dict[str, Tensor], dict[str, Any]]:
        """The anchor's, with what was learned averaged in."""
        backbone, anchor = self.network.backbone, self.maps.network.backbone
        tuned = backbone.network.state_dict()
        written = {
            name: value.lerp(tuned[name], self.config.strength) if name in self.learned else value
            for name, value in anchor.network.state_dict().items()
        }
        return backbone, written, {"start": self.source.get("weights")}


def _members(images: TrainingImages) -> list[list[Tensor]]:
    """Rows of the images of each class of each data set."""
    found: list[list[list[int]]] = [[[] for _ in range(count)] for count in images.classes]
    for row, (of_set, label) in enumerate(
        zip(images.sets.tolist(), images.labels.tolist(), strict=True)
    ):
        found[of_set][label].append(row)
    return [[torch.tensor(rows, dtype=torch.long) for rows in of_set] for of_set in found]
