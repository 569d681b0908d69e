"""The base of MAML, first-order MAML and iMAML: gradient steps on the support set.

    φ⁰ = (θ, head before the first step)    start
    φ* = inner loop on L̂ from φ⁰            solve
    ∂L_test(φ*)/∂φ⁰ from ∂L_test/∂φ*         pull_back     (what tells these learners apart)

Parameters are dictionaries: "backbone.…" as this module names them, "head.weight" and "head.bias".
"""

from __future__ import annotations

import math
import sys
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args

import torch
from torch import Tensor
from torch.func import functional_call

from fewshot_lite.core.config import MOST_INNER_STEPS, InnerHead, NormStatistics
from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.heads.linear_start import LinearStart
from fewshot_lite.learners.base import Engine, Learner, TaskClassifier, lower_maps_of
from fewshot_lite.learners.film_learner import check_norm_layers, first_film_stage
from fewshot_lite.lite.sampling import Chosen
from fewshot_lite.maml.objective import Objective
from fewshot_lite.maml.params import Params
from fewshot_lite.maml.patterns import Pattern
from fewshot_lite.networks.backbone import Backbone
from fewshot_lite.networks.micro_batches import Passes
from fewshot_lite.networks.stages import Staged
from fewshot_lite.networks.support_norm import Recorded, SupportNorm, support_rows, use_support_norm

_HEAD = ("head.weight", "head.bias")


@dataclass(frozen=True)
class Solved:
    """The solution of an inner loop, with the gradient of the query loss there."""

    objective: Objective
    """L̂ of the support set."""
    path: list[Params]
    """φ before each step, as `GradientLearner.solve` appends it; empty unless `needs_path`."""
    end: Params
    """φ*."""
    gradient: Params
    """∂L_test/∂φ*."""
    draw: Callable[[], Chosen | None]
    """Draws the images that estimate a product with a Hessian; None stands for all images."""


class GradientLearner(Learner):
    """A backbone that is adapted by gradient steps on its weights, or on those of some layers.

    Runs in float32, as second derivatives depend on small differences.
    """

    head: LinearStart

    def __init__(
        self,
        backbone: Backbone,
        *,
        inner_steps: int = 5,
        inner_lr: float = 0.1,
        inner_head: InnerHead = "means",
        way: int | None = None,
        statistics: NormStatistics = "running",
        pattern: str | None = None,
        backbone_lr: float = 1.0,
        film_stages: int | None = None,
    ) -> None:
        """Assemble the learner around a backbone.

        Args:
            backbone: used as it is, not copied.
            inner_steps: T.
            inner_lr: α.
            inner_head: the head before the first step; see `LinearStart`.
            way: K of a learned head.
            statistics: the statistics of BatchNorm layers: the running ones, or the support set's;
                see `support_norm`.
            pattern: the layers to update (`Pattern.parse`); None for all.
            backbone_lr: learning rate of the backbone's start relative to the learner's.
            film_stages: learn and update only the norm parameters of this many stages of the
                backbone, from the top; None: all weights.

        Raises:
            UsageError: a learned head without a way, a pattern that does not fit, or FiLM that is
                impossible: on a backbone without enough stages or norm layers with biases, or with
                the support set's statistics, which change what lies below.
            ValueError: invalid numbers or names, as of a damaged file.
        """
        _check_numbers(inner_steps=inner_steps, inner_lr=inner_lr, backbone_lr=backbone_lr)
        if inner_head not in get_args(InnerHead) or statistics not in get_args(NormStatistics):
            raise ValueError(f"inner_head {inner_head!r}, statistics {statistics!r}")
        super().__init__(backbone, backbone_lr)
        if inner_head == "learned" and way is None:
            raise UsageError("--inner-head learned: give one way, --min-way equal to --max-way.")
        self.inner_steps, self.inner_lr, self.inner_head = inner_steps, inner_lr, inner_head
        self.statistics = statistics
        if statistics == "support":
            use_support_norm(backbone.network)
        self.head = LinearStart(backbone.feature_dim, way if inner_head == "learned" else None)
        self.film_stages, self._start, self._film = film_stages, 0, frozenset[str]()
        if film_stages is not None:
            self._choose_film(film_stages)
        self.set_pattern(pattern)
        self.eval()

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers of a pattern: the backbone's stages and the head."""
        return self._staged.layers

    def set_pattern(self, text: str | None) -> None:
        """Set the layers to update; None for all.

        Raises:
            UsageError: as `Pattern.parse`.
        """
        layers = self.layers
        self.pattern = (
            self._everything() if text is None else Pattern.parse(text, layers, self.inner_steps)
        )
        if self.pattern.lowest < self.first_stage:
            raise UsageError(
                f"--pattern {text}: updates {layers[self.pattern.lowest]}, but with --film-stages "
                f"{self.film_stages} nothing below {layers[self.first_stage]} is."
            )
        if self.inner_head == "learned" and not any(self.pattern.updated):
            raise UsageError(
                f"--pattern {text}: adapts nothing, and a learned head knows no classes without. "
                "Let a layer adapt, or use --inner-head means."
            )

    @property
    def first_stage(self) -> int:
        return self._start

    @property
    def coupled(self) -> bool:
        """Whether support images affect each other's features, and must share a pass."""
        return any(isinstance(module, SupportNorm) for module in self.backbone.modules())

    def updated_names(self) -> list[tuple[str, ...]]:
        """Return the parameters that each inner step updates."""
        layers = self.names_by_layer()
        return [
            tuple(name for on, layer in zip(row, layers, strict=True) if on for name in layer)
            for row in self.pattern.rows
        ]

    def names_by_layer(self) -> list[tuple[str, ...]]:
        """Return the adaptable parameters of each of `layers`."""
        stages = self._staged.parameter_names()
        return [*(tuple(filter(self._is_adaptable, names)) for names in stages), _HEAD]

    def learned(self) -> Params:
        """Return the parameters that meta-training learns and steps update, detached.

        They have all weights of the backbone, or FiLM alone if `film_stages` is set.
        """
        return {k: v.detach() for k, v in self.named_parameters() if self._is_adaptable(k)}

    def stage_inputs(self, images: Tensor, micro_batch: int) -> Tensor:
        """Return the inputs of the first adaptable stage: lower maps, or preprocessed images."""
        if self.first_stage:
            return lower_maps_of(self, images, Passes(micro_batch))
        return self.backbone.prepared(images)

    def features_from(
        self,
        params: Mapping[str, Tensor],
        x: Tensor,
        stage: int | None = None,
        record: Recorded | None = None,
    ) -> Tensor:
        """Return features (B, d) of support images from inputs of a stage (`stage_inputs`)."""
        return self._run(params, x, len(x), self._start if stage is None else stage, None, record)

    def logits_from(
        self, params: Mapping[str, Tensor], x: Tensor, stage: int | None = None
    ) -> Tensor:
        """Return logits (B, K) of support images; arguments as `features_from`."""
        return self.head.logits(_head_of(params), self.features_from(params, x, stage))

    def query_logits(
        self, params: Mapping[str, Tensor], support: Tensor, queries: Tensor
    ) -> Tensor:
        """Return logits (Q, K) of queries, differentiable in the support set (`stage_inputs`)."""
        if not self.coupled:
            return self.logits_from(params, queries)
        both = torch.cat([support, queries])
        features = self._run(params, both, len(support), 0, None, None)
        return self.head.logits(_head_of(params), features[len(support) :])

    def start(
        self, learned: Mapping[str, Tensor], features: Tensor, labels: Tensor, classes: int
    ) -> Params:
        """Return φ⁰: the learned parameters, with the head for support features (N, d)."""
        head = {k.removeprefix("head."): v for k, v in learned.items() if k.startswith("head.")}
        fitted = self.head.fit_with(head, features, labels, classes)
        others = {k: v for k, v in learned.items() if not k.startswith("head.")}
        return others | {f"head.{name}": value for name, value in fitted.items()}

    @torch.no_grad()
    def start_logits(self, images: Tensor, labels: Tensor, classes: int) -> Tensor:
        """Return logits (N, K) of support images before the first step; arguments as `adapt`."""
        learned, passes = self.learned(), Passes(len(images)) if self.coupled else Passes()
        inputs = self.stage_inputs(images, passes.micro_batch)
        features = passes.map(lambda x: self.features_from(learned, x), inputs)
        return self.head.logits(_head_of(self.start(learned, features, labels, classes)), features)

    def objective(
        self, x: Tensor, labels: Tensor, micro_batch: int, stage: int | None = None
    ) -> Objective:
        """Return L̂ of the support set; arguments as `features_from`."""

        def logits(params: Mapping[str, Tensor], x: Tensor) -> Tensor:
            return self.logits_from(params, x, stage)

        return Objective(logits, x, labels, None if self.coupled else micro_batch)

    @abstractmethod
    def solve(
        self, objective: Objective, start: Params, path: list[Params] | None = None
    ) -> Params:
        """Run the inner loop from φ⁰; return φ*, and append φ before each step to `path`."""

    @abstractmethod
    def pull_back(self, solved: Solved) -> tuple[Params, Tensor]:
        """Compute ∂L_test/∂φ⁰ from ∂L_test/∂φ*, over all of φ.

        Returns:
            The gradient, and int64 (): how often negative curvature was met.
        """

    @property
    def needs_path(self) -> bool:
        """Whether `pull_back` needs the path of the inner loop."""
        return False

    @torch.no_grad()
    def adapt_from_maps(
        self,
        x: Tensor,
        labels: Tensor,
        classes: int,
        *,
        passes: Passes = Passes(),
        engine: Engine | None = None,
    ) -> TaskClassifier:
        """Adapt by gradient steps; arguments as `Learner.adapt_from_maps`.

        Stages below the lowest updated one run once, however many steps there are. The cast applies
        below the steps and to queries; `engine` is not used.

        Raises:
            ValueError: a part of the learner is in training mode, or a class has no image.
            UsageError: a learned head for another number of classes.
            FewshotError: the steps diverged.
        """
        self.check_evaluation_mode()
        self.head.check_way(classes)
        if set(labels.tolist()) != set(range(classes)):
            raise ValueError(f"every one of the {classes} classes needs a support image")
        learned, stage = self.learned(), self.pattern.lowest
        size = len(x) if self.coupled else passes.micro_batch
        float_passes, record = Passes(size), Recorded()
        inputs = x if self.first_stage else self.backbone.prepared(x)

        def lower(x: Tensor) -> Tensor:
            return self._run(learned, x, len(x), self.first_stage, stage, record)

        def upper(params: Params) -> Callable[[Tensor], Tensor]:
            return lambda x: self.features_from(params, x, stage, record)

        # If the head alone is adapted, `below` are features.
        below = float_passes.map(lower, inputs) if stage > self.first_stage else inputs
        features = below.new_zeros(len(x), self.backbone.feature_dim)
        if self.head.way is None:  # a learned head does not use them
            features = float_passes.map(upper(learned), below)
        start = self.start(learned, features, labels, classes)
        end = self.solve(self.objective(below, labels, size, stage), start)
        features = float_passes.map(upper(end), below)
        values = [*end.values(), features]
        if not all(bool(torch.isfinite(value).all()) for value in values):
            raise FewshotError(
                f"Adapting diverged within {self.inner_steps} inner steps of {self.inner_lr}. "
                "Meta-train the model with a smaller --inner-lr."
            )
        updated = {name for names in self.updated_names() for name in names} - set(_HEAD)
        parameters = {k.removeprefix("backbone."): end[k] for k in end if k in updated}
        parameters |= {f"network.{name}": value for name, value in record.items()}
        statistics = {"weight": end["head.weight"], "bias": end["head.bias"]}
        return TaskClassifier(self, parameters, statistics, features, passes)

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        head = {"name": "head", "params": list(self.head.parameters()), "lr": lr}
        return [head, *self.backbone_groups(lr)]

    def hyperparameters(self) -> dict[str, Any]:
        return {
            "inner_steps": self.inner_steps,
            "inner_lr": self.inner_lr,
            "inner_head": self.inner_head,
            "way": self.head.way,
            "statistics": self.statistics,
            "pattern": None if self.pattern == self._everything() else str(self.pattern),
            "backbone_lr": self.backbone_lr,
            # Older files have no such entry.
            **({} if self.film_stages is None else {"film_stages": self.film_stages}),
        }

    def _choose_film(self, film_stages: int) -> None:
        """Restrict adaptation and learning to the norm layers of the upper stages."""
        if self.coupled:
            raise UsageError(
                f"--film-stages {film_stages}: must be left out with --statistics support, which "
                "change what lies below. Give the --weights of a trained backbone."
            )
        self._start = first_film_stage(self._staged, film_stages)
        layers = self._staged.norm_layers(self._start)
        check_norm_layers(self.backbone, layers)
        names = (f"backbone.{layer}" for layer in layers)
        self._film = frozenset(f"{name}.{part}" for name in names for part in ("weight", "bias"))
        for name, parameter in self.named_parameters():
            if not self._is_adaptable(name):
                parameter.requires_grad_(False)

    def _is_adaptable(self, name: str) -> bool:
        """Whether a parameter is learned, and may be updated."""
        return not self._film or name in self._film or not name.startswith("backbone.")

    def _everything(self) -> Pattern:
        return Pattern.everything(len(self.layers), self.inner_steps, self.first_stage)

    @cached_property
    def _staged(self) -> Staged:
        """The backbone in stages; `cached_property` keeps it from becoming a submodule."""
        return Staged(self.backbone)

    def __getstate__(self) -> dict[str, Any]:
        """Drop the stages: those of a copy would still run the modules of the original."""
        return {name: value for name, value in self.__dict__.items() if name != "_staged"}

    def _run(
        self,
        params: Mapping[str, Tensor],
        x: Tensor,
        rows: int,
        start: int,
        stop: int | None,
        record: Recorded | None,
    ) -> Tensor:
        """Run stages `start` to `stop - 1`; the first `rows` images are the support set."""
        weights = {k: v for k, v in params.items() if k.startswith("backbone.")}
        with support_rows(self.backbone.network, rows, record):
            result: Tensor = functional_call(self._staged, weights, (x, start, stop))
        return result


def _check_numbers(*, inner_steps: int, **rates: float) -> None:
    """Raise a ValueError for a number out of range, as of a damaged file."""
    if not isinstance(inner_steps, int) or not 1 <= inner_steps <= MOST_INNER_STEPS:
        raise ValueError(f"inner_steps {inner_steps!r}")
    for name, value in rates.items():
        least = 0 if name == "backbone_lr" else sys.float_info.min
        if not isinstance(value, int | float) or not least <= value < math.inf:
            raise ValueError(f"{name} {value!r}")


def _head_of(params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {"weight": params["head.weight"], "bias": params["head.bias"]}
