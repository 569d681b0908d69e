"""Refinement: a few gradient steps from where one forward pass arrives.

A one-pass learner gives FiLM parameters φ⁰ and features of the support set. From there Adam
minimises, over the FiLM parameters φ of the backbone's upper stages and over a cosine head (w, τ)
that starts at the class means,

    mean over rows of  -log softmax(τ cos(f(x; φ), w))[y]  +  (λ/2) ‖φ - φ⁰‖²

with smoothed labels, every class weighing the same. The proximal term is that of iMAML's inner
problem (Rajeswaran et al. 2019, equation 3); which stages move is a Lambda pattern (Khabarlak 2022;
`maml.patterns`). What lies below the lowest of them is computed once per image, and the batches
are small, so that a step costs the upper stages on `batch` images whatever the support set's size.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.progress import OnDone
from fewshot_lite.core.random_streams import Stream, generator
from fewshot_lite.heads.adapted import AdaptedHead
from fewshot_lite.heads.base import Statistics
from fewshot_lite.learners.base import Cast, Engine, Learner, TaskClassifier, map_batches
from fewshot_lite.maml.gradient_learner import GradientLearner
from fewshot_lite.maml.patterns import Pattern
from fewshot_lite.networks.film import NormParameters
from fewshot_lite.networks.stages import Staged

#: Called with a step's number, and the learner as it was refined until then.
Look = Callable[[int, TaskClassifier], None]


@dataclass(frozen=True)
class Refinement:
    """How a one-pass solution is refined; the values are a first choice, not searched for."""

    steps: int = 60
    """The number of steps of Adam."""
    film_lr: float = 3e-3
    """Step size of the FiLM parameters."""
    head_lr: float = 1e-2
    """Step size of the head's weights and of the logarithm of its temperature."""
    batch: int = 32
    """Support rows in a step."""
    smoothing: float = 0.1
    """Share of a label that goes to all classes."""
    proximal: float = 0.0
    """λ."""
    pattern: str | None = None
    """A digit for each stage and for the head; None for the top five, or half if that is less."""
    seed: int = 0
    """The seed of the order in which steps see the support rows."""

    def check(self) -> None:
        """Refuse values with which no step can be taken.

        Raises:
            ValueError: one is out of range.
        """
        positive = (self.batch, self.film_lr, self.head_lr)
        if self.steps < 0 or min(positive) <= 0 or self.proximal < 0:
            raise ValueError(f"{self}: steps and proximal must be 0 or more, the rest above 0")
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"smoothing {self.smoothing}: must be from 0 to below 1")


class RefinedLearner(Learner):
    """A one-pass learner whose solution is refined by gradient steps on the support set."""

    name: ClassVar[str] = "refined"

    def __init__(self, base: Learner, settings: Refinement | None = None) -> None:
        """Put refinement on top of a learner.

        Args:
            base: a learner that adapts in one forward pass; used as it is, not copied.
            settings: of the steps.

        Raises:
            UsageError: a base that adapts by gradient itself, a backbone that cannot be run stage
                by stage, or a pattern that does not fit it or leaves the head as it is.
            ValueError: as `Refinement.check`.
        """
        if isinstance(base, GradientLearner | RefinedLearner):
            raise UsageError(
                f"refine: the base is {base.name}, which adapts by gradient steps already. "
                "Leave --refine out."
            )
        super().__init__(base.backbone, backbone_lr=0.0)
        self.base = base
        self.settings = settings or Refinement()
        self.settings.check()
        self.head = AdaptedHead(1, base.backbone.feature_dim, normalised=True)
        self.head.requires_grad_(False)
        self._staged = [Staged(base.backbone)]  # in a list, so that it is no submodule
        row = self._row()
        self._lowest = max(row.index(True), base.first_stage)
        stages = self._staged[0].parameter_names()
        moving = {name for on, names in zip(row, stages, strict=False) if on for name in names}
        self._moving = [
            name
            for layer in base.backbone.norm_layers()
            for name in (f"{layer}.weight", f"{layer}.bias")
            if f"backbone.{name}" in moving
        ]
        self.eval()

    @property
    def layers(self) -> tuple[str, ...]:
        """What a pattern has digits for: the stages, from the images up, and the head."""
        return self._staged[0].layers

    @property
    def first_stage(self) -> int:
        return self.base.first_stage

    def lower_maps(self, images: Tensor) -> Tensor:
        return self.base.lower_maps(images)

    def features(self, x: Tensor, parameters: NormParameters) -> Tensor:
        return self.base.features(x, parameters)

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """None: what is refined is the support set's, and the base is meta-trained by itself."""
        return []

    def hyperparameters(self) -> dict[str, Any]:
        return asdict(self.settings)

    def adapt_from_maps(
        self,
        x: Tensor,
        labels: Tensor,
        classes: int,
        *,
        micro_batch: int = 64,
        cast: Cast = contextlib.nullcontext,
        engine: Engine | None = None,
    ) -> TaskClassifier:
        """Adapt in one forward pass, then refine; arguments as `Learner.adapt_from_maps`.

        Raises:
            ValueError: as `Learner.adapt`.
            FewshotError: the steps diverged.
        """
        start = self.base.adapt_from_maps(
            x, labels, classes, micro_batch=micro_batch, cast=cast, engine=engine
        )
        return self.refine(start, x, labels, classes)

    @torch.no_grad()
    def refine(
        self,
        start: TaskClassifier,
        x: Tensor,
        labels: Tensor,
        classes: int,
        *,
        on_step: OnDone | None = None,
        looks: Collection[int] = (),
        look: Look | None = None,
    ) -> TaskClassifier:
        """Refine what the base made of a support set.

        Args:
            start: the base, adapted to these images.
            x: what `lower_maps` gave of the images.
            labels: int64 (N,) of 0..K-1, every class present.
            classes: K.
            on_step: called with (steps taken, steps in all).
            looks: numbers of steps after which `look` is called.
            look: see there.

        Raises:
            FewshotError: the steps diverged.
        """
        order = self._order(len(labels))
        used = order.flatten().unique()
        size, cast = start.micro_batch, start.cast

        def below(part: Tensor) -> Tensor:
            return self._run(part, start.parameters, self.base.first_stage, self._lowest)

        kept = map_batches(below, x[used.to(x.device)], size, cast)
        place = torch.zeros(len(labels), dtype=torch.int64)
        place[used] = torch.arange(len(used))

        def classifier(parameters: NormParameters, head: Statistics) -> TaskClassifier:
            features = map_batches(lambda part: self.features(part, parameters), x, size, cast)
            values = [*parameters.values(), *head.values(), features]
            if not all(bool(value.isfinite().all()) for value in values):
                raise FewshotError(
                    f"Refining diverged within {self.settings.steps} steps of "
                    f"{self.settings.film_lr}: its values are not finite."
                )
            return TaskClassifier(self, parameters, head, features, size, cast)

        steps = self._descend(start, kept, place[order], labels, order, classes)
        adapted = next(steps)
        for number, adapted in enumerate(steps, start=1):
            if number in looks and look is not None:
                look(number, classifier(*adapted()))
            if on_step is not None:
                on_step(number, self.settings.steps)
        return classifier(*adapted())

    def _row(self) -> tuple[bool, ...]:
        """Which stages move, and the head."""
        layers = self.layers
        if len(layers) < 3:
            raise UsageError(
                f"refine: {self.backbone.name} cannot be run stage by stage. Choose a backbone "
                "that can, e.g. efficientnet_lite0 or resnet18."
            )
        text = self.settings.pattern
        if text is None:
            first = max(len(layers) // 2, len(layers) - 1 - _TOP, self.base.first_stage)
            return tuple(number >= first for number in range(len(layers)))
        row = Pattern.parse(text, layers, 1).rows[0]
        if not row[-1] or not any(row[:-1]):
            raise UsageError(
                f"--refine-pattern {text}: must name a stage, and end in 1: the head moves too."
            )
        return row

    def _run(self, x: Tensor, parameters: NormParameters, start: int, stop: int | None) -> Tensor:
        """Stages `start` to before `stop`, of images if `start` is 0."""
        if start == 0:
            x = self.backbone.prepared(x)
        named = {f"backbone.{name}": value for name, value in parameters.items()}
        result: Tensor = functional_call(self._staged[0], named, (x, start, stop))
        return result

    def _descend(
        self,
        start: TaskClassifier,
        below: Tensor,
        rows: Tensor,
        labels: Tensor,
        order: Tensor,
        classes: int,
    ) -> Iterator[Callable[[], tuple[NormParameters, Statistics]]]:
        """Adam's steps from φ⁰; before the first and after each, what gives where they are.

        Args:
            below: what `_lower` made of the images that the steps look at.
            rows: int64 (steps, batch), which of these each step looks at.
            order: int64 (steps, batch), the same as numbers of support images.
        """
        settings, device = self.settings, labels.device
        own = dict(self.backbone.named_parameters()) | start.parameters
        origin = {name: own[name].detach() for name in self._moving}
        film = {name: value.clone().requires_grad_() for name, value in origin.items()}
        weight = _class_means(start.support_features, labels, classes).requires_grad_()
        log_temperature = torch.tensor(_TEMPERATURE, device=device).log().requires_grad_()
        optimizer = torch.optim.Adam(
            [
                {"params": list(film.values()), "lr": settings.film_lr},
                {"params": [weight, log_temperature], "lr": settings.head_lr},
            ]
        )
        share = len(labels) / (classes * torch.bincount(labels, minlength=classes)).float()

        def head() -> Tensor:
            return log_temperature.exp() * F.normalize(weight, dim=1)

        def adapted() -> tuple[NormParameters, Statistics]:
            moved = {name: value.detach().clone() for name, value in film.items()}
            found = {"weight": head().detach(), "bias": torch.zeros(classes, device=device)}
            return start.parameters | moved, found

        yield adapted
        for chosen, images in zip(rows.to(device), order.to(device), strict=True):
            with torch.enable_grad():
                named = start.parameters | film
                features = self._run(below[chosen], named, self._lowest, None)
                logits = F.linear(F.normalize(features, dim=1), head())
                targets = labels[images]
                losses = F.cross_entropy(
                    logits, targets, reduction="none", label_smoothing=settings.smoothing
                )
                loss = (losses * share[targets]).mean()
                if settings.proximal:
                    far = [(film[name] - origin[name]).square().sum() for name in film]
                    loss = loss + settings.proximal / 2 * torch.stack(far).sum()
                optimizer.zero_grad()
                loss.backward()
            optimizer.step()
            yield adapted

    def _order(self, count: int) -> Tensor:
        """The rows of each step, int64 (steps, batch): all once before any comes again."""
        settings = self.settings
        size = min(settings.batch, count)
        shuffle = generator(settings.seed, Stream.REFINEMENT_ROWS)
        rounds = -(-settings.steps * size // count)
        shuffled = [torch.randperm(count, generator=shuffle) for _ in range(rounds)]
        rows = torch.cat([torch.zeros(0, dtype=torch.int64), *shuffled])
        return rows[: settings.steps * size].reshape(settings.steps, size)


def _class_means(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """The head before the first step: directions (K, d) of the classes' mean directions."""
    sums = torch.zeros(classes, features.shape[1], device=features.device)
    return F.normalize(sums.index_add_(0, labels, F.normalize(features, dim=1)), dim=1)


#: Stages that move by default. With four more a step of EfficientNet-Lite0 takes over twice as
#: long; whether they would gain anything was not measured on more than a few tasks.
_TOP = 5
#: Of the cosine head before the first step.
_TEMPERATURE = 15.0
