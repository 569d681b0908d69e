"""Refinement: a few gradient steps from the solution of one forward pass.

A one-pass learner gives FiLM parameters φ⁰ and features of the support set. From there Adam
minimises, over the weights and FiLM parameters φ of the backbone's upper stages,

    mean over photos of  -log softmax_k(τ cos(f(x_n; φ), m_k without x_n))[y_n]  +  (λ/2) ‖φ - φ⁰‖²

where m_k is the sum of the normalised features of class k: a photo is classified by the other
photos, as new photos will be, so that a step gains nothing by features that fit their own photo
alone. Labels are smoothed, every class weighs the same, and a step sees one view of each photo. The
head has no part in the loss: it is fitted to the features afterwards, as after one pass. The
proximal term is that of iMAML's inner problem (Rajeswaran et al. 2019, equation 3); the stages that
move are a Lambda pattern (Khabarlak 2022; `maml.patterns`). The stages below them are computed once
per view, and a step sees `batch` photos at most, whatever the support set's size.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.progress import OnDone
from fewshot_lite.core.random_streams import Stream, generator
from fewshot_lite.learners.base import Engine, Learner, Run, TaskClassifier
from fewshot_lite.maml.adam import Adam
from fewshot_lite.maml.gradient_learner import GradientLearner
from fewshot_lite.maml.patterns import stages_that_move
from fewshot_lite.networks.film import NormParameters
from fewshot_lite.networks.inference import compiled
from fewshot_lite.networks.micro_batches import Passes
from fewshot_lite.networks.stages import Staged

#: The parameters of a stage that steps update.
Moves = Literal["film", "weights"]
#: Photos in a step to which two of each class may raise `Refinement.batch`.
_TWO_OF_EACH = 64
#: Called with a step's number and the classifier after that step.
Look = Callable[[int, TaskClassifier], None]


@dataclass(frozen=True)
class Refinement:
    """Settings of refinement."""

    steps: int = 30
    """The number of steps of Adam."""
    moves: Moves = "weights"
    """The parameters of a stage that move: FiLM parameters alone, or weights with them."""
    film_lr: float = 1e-3
    """Step size of the FiLM parameters."""
    weight_lr: float = 5e-4
    """Step size of weights."""
    batch: int = 64
    """Photos in a step, at most; but two of each class where those are no more than 64."""
    smoothing: float = 0.1
    """Share of a label that goes to all classes."""
    proximal: float = 0.0
    """λ."""
    pattern: str | None = None
    """The stages that move, as `maml.patterns.stages_that_move` reads it; None: the top one."""
    seed: int = 0
    """Seed of the choice of photos, and of a view of each, for a step."""

    def check(self) -> None:
        """Refuse values out of range.

        Raises:
            ValueError: one is out of range.
        """
        positive = (self.film_lr, self.weight_lr)
        if self.steps < 0 or min(positive) <= 0 or self.proximal < 0 or self.batch < 2:
            raise ValueError(
                f"{self}: must have step sizes above 0, a batch of 2 or more, steps and proximal "
                "of 0 or more"
            )
        if self.moves not in get_args(Moves):
            raise ValueError(f"moves {self.moves!r}: must be film or weights")
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"smoothing {self.smoothing}: must be from 0 to below 1")


class RefinedLearner(Learner):
    """A one-pass learner whose solution is refined by gradient steps on the support set."""

    name: ClassVar[str] = "refined"

    def __init__(
        self, base: Learner, settings: Refinement | None = None, *, image_size: int | None = None
    ) -> None:
        """Put refinement on top of a learner.

        Args:
            base: a learner that adapts in one forward pass; used as it is, not copied.
            settings: the settings of the steps.
            image_size: side of the images, if onnxruntime may run what needs no gradient
                (`networks.inference`), which is faster and is not counted.

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
        self.head = base.head
        self._image_size = image_size
        self._staged = [Staged(base.backbone)]  # in a list, so that it is no submodule
        row = self._row()
        self._lowest = row.index(True)
        stages = self._staged[0].parameter_names()
        moving = {name for on, names in zip(row, stages, strict=False) if on for name in names}
        layers = base.backbone.norm_layers()
        film = {f"{layer}.{part}" for layer in layers for part in ("weight", "bias")}
        self._moving = [
            name
            for name, _ in base.backbone.named_parameters()
            if f"backbone.{name}" in moving and (name in film or self.settings.moves == "weights")
        ]
        self._film = film
        self.eval()

    def with_steps(self, steps: int) -> RefinedLearner:
        """The same refinement with another number of steps."""
        settings = replace(self.settings, steps=steps)
        return RefinedLearner(self.base, settings, image_size=self._image_size)

    def copy(self) -> RefinedLearner:
        """A learner of its own modules, with the same tensors, which another thread may use."""
        shared = {id(tensor): tensor for tensor in (*self.base.parameters(), *self.base.buffers())}
        base = deepcopy(self.base, shared)
        return RefinedLearner(base, self.settings, image_size=self._image_size)

    @property
    def layers(self) -> tuple[str, ...]:
        """The digits of a pattern are of these: the stages, from the images up, and the head."""
        return self._staged[0].layers

    @property
    def first_stage(self) -> int:
        return self.base.first_stage

    def lower_maps(self, images: Tensor) -> Tensor:
        return self.base.lower_maps(images)

    def features(self, x: Tensor, parameters: NormParameters) -> Tensor:
        return self.base.features(x, parameters)

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Return none: refinement is of one task, and the base is meta-trained by itself."""
        return []

    def hyperparameters(self) -> dict[str, Any]:
        return asdict(self.settings)

    def adapt_from_maps(
        self,
        x: Tensor,
        labels: Tensor,
        classes: int,
        *,
        passes: Passes = Passes(),
        engine: Engine | None = None,
    ) -> TaskClassifier:
        """Adapt in one forward pass, then refine; arguments as `Learner.adapt_from_maps`.

        Raises:
            ValueError: as `Learner.adapt`.
            FewshotError: the steps diverged.
        """
        start = self.base.adapt_from_maps(x, labels, classes, passes=passes, engine=engine)
        photos = torch.arange(len(labels), device=labels.device)
        return self.refine(start, self.upper_maps(start, x), labels, classes, photos)

    @torch.no_grad()
    def upper_maps(self, start: TaskClassifier, x: Tensor) -> Tensor:
        """Return the inputs of the lowest stage that moves, which no step changes.

        Args:
            start: the base, adapted.
            x: maps of `lower_maps`, N rows.
        """
        if self._lowest == self.first_stage:
            return x
        run = self._without_gradients(start.parameters, self.first_stage, self._lowest)
        return start.passes.map(run, x)

    @torch.no_grad()
    def features_of(self, maps: Tensor, task: TaskClassifier) -> Tensor:
        """Return the features (N, d) of maps of `upper_maps`, after refinement."""
        features = task.passes.map(self._without_gradients(task.parameters, self._lowest), maps)
        return features.to(torch.promote_types(features.dtype, torch.float32))

    @torch.no_grad()
    def refine(
        self,
        start: TaskClassifier,
        maps: Tensor,
        labels: Tensor,
        classes: int,
        photos: Tensor,
        *,
        on_step: OnDone | None = None,
        looks: Collection[int] = (),
        look: Look | None = None,
    ) -> TaskClassifier:
        """Refine the solution of the base for a support set.

        Args:
            start: the base, adapted to these images.
            maps: their maps of `upper_maps`, N rows.
            labels: int64 (N,) of 0..K-1, every class present.
            classes: K.
            photos: int64 (N,), the number of the photo of which each row is a view.
            on_step: called with (steps taken, steps in all).
            looks: numbers of steps after which `look` is called.
            look: called after the steps of `looks`.

        Raises:
            FewshotError: the steps diverged.
        """

        def classifier(parameters: NormParameters) -> TaskClassifier:
            task = replace(start, learner=self, parameters=parameters)
            features = self.features_of(maps, task)
            if not all(bool(value.isfinite().all()) for value in (*parameters.values(), features)):
                raise FewshotError(
                    f"Refining diverged within {self.settings.steps} steps of "
                    f"{self.settings.film_lr}: its values are not finite."
                )
            statistics = self.head.fit(features, labels, classes)
            return replace(task, statistics=statistics, support_features=features)

        parameters, task = start.parameters, None
        steps = self._descend(start.parameters, maps, labels, classes, photos)
        for number, parameters in enumerate(steps, start=1):
            task = None
            if number in looks and look is not None:
                task = classifier(parameters)
                look(number, task)
            if on_step is not None:
                on_step(number, self.settings.steps)
        return task or classifier(parameters)

    def _row(self) -> tuple[bool, ...]:
        """Return for each stage, and for the head, whether it moves."""
        layers = self.layers
        if len(layers) < 3:
            raise UsageError(
                f"refine: {self.backbone.name} cannot be run stage by stage. Choose a backbone "
                "that can, e.g. efficientnet_lite0 or resnet18."
            )
        text = self.settings.pattern
        if text is None:
            return tuple(number >= len(layers) - 2 for number in range(len(layers)))
        return stages_that_move(text, layers, self.base.first_stage)

    def _without_gradients(
        self, parameters: NormParameters, start: int, stop: int | None = None
    ) -> Run:
        """Return what runs stages `start` to before `stop`: onnxruntime if it may and can."""
        if size := self._image_size:
            run = compiled(self.backbone, size, start=start, stop=stop, parameters=parameters)
            if run is not None:
                return run
        return lambda part: self._run(part, parameters, start, stop)

    def _run(self, x: Tensor, parameters: NormParameters, start: int, stop: int | None) -> Tensor:
        """Run stages `start` to before `stop`, on images if `start` is 0."""
        if start == 0:
            x = self.backbone.prepared(x)
        named = {f"backbone.{name}": value for name, value in parameters.items()}
        result: Tensor = functional_call(self._staged[0], named, (x, start, stop))
        return result

    def _descend(
        self,
        start: NormParameters,
        maps: Tensor,
        labels: Tensor,
        classes: int,
        photos: Tensor,
    ) -> Iterator[NormParameters]:
        """Take Adam's steps from φ⁰ and yield the parameters after each."""
        settings = self.settings
        own = dict(self.backbone.named_parameters()) | start
        origin = {name: own[name].detach() for name in self._moving}
        moving = {name: value.clone().requires_grad_() for name, value in origin.items()}
        film = [moving[name] for name in moving if name in self._film]
        weights = [moving[name] for name in moving if name not in self._film]
        optimizers = Adam(film, settings.film_lr), Adam(weights, settings.weight_lr)
        for chosen in self._episodes(labels, photos):
            rows = chosen.to(labels.device)
            with torch.enable_grad():
                some = maps[rows].contiguous(memory_format=torch.channels_last)  # faster on CPUs
                features = self._run(some, start | moving, self._lowest, None)
                loss = leave_one_out_loss(features, labels[rows], classes, settings.smoothing)
                if settings.proximal:
                    far = [(moving[name] - origin[name]).square().sum() for name in moving]
                    loss = loss + settings.proximal / 2 * torch.stack(far).sum()
                values = [*film, *weights]
                gradients = torch.autograd.grad(loss, values, materialize_grads=True)
            optimizers[0].step(gradients[: len(film)])
            optimizers[1].step(gradients[len(film) :])
            yield start | {name: value.detach().clone() for name, value in moving.items()}

    def _episodes(self, labels: Tensor, photos: Tensor) -> Iterator[Tensor]:
        """Yield the rows of each step, int64 (B,): one view of each photo, or of some photos.

        Some photos are at least two of a class, if need be of some classes only. If each class has
        a single photo, its views take the place of photos.
        """
        shuffle = generator(self.settings.seed, Stream.REFINEMENT_ROWS)
        labels, photos = labels.cpu(), photos.cpu()
        pairs = torch.stack([labels, photos]).unique(dim=1)
        if int(torch.bincount(pairs[0]).max()) < 2:
            photos = torch.arange(len(labels))
        most = max(self.settings.batch, min(2 * (int(labels.max()) + 1), _TWO_OF_EACH))
        for _ in range(self.settings.steps):
            order = torch.randperm(len(labels), generator=shuffle)
            _, of_row = photos[order].unique(return_inverse=True)
            first = torch.full((int(of_row.max()) + 1,), len(order))
            first = first.scatter_reduce(0, of_row, torch.arange(len(order)), "amin")
            rows = order[first.sort().values]  # a view of each photo, in random order
            if len(rows) > most:
                rows = _some(rows, labels[rows], most)
            yield rows


#: τ.
_TEMPERATURE = 15.0


def leave_one_out_loss(
    features: Tensor, labels: Tensor, classes: int, smoothing: float = 0.0
) -> Tensor:
    """Return the mean cross-entropy (), each row classified by the other rows' class sums.

    Args:
        features: (B, d); the only row of a class stays in its own class sum.
        labels: int64 (B,) of 0..K-1; classes without any are left out.
        classes: K.
        smoothing: share of a label that goes to all classes.
    """
    f = F.normalize(features, dim=1)
    shots = torch.bincount(labels, minlength=classes)
    there = (shots > 0).nonzero().flatten()
    sums = f.new_zeros(classes, f.shape[1]).index_add(0, labels, f)
    others = sums[labels] - f * (shots[labels] > 1)[:, None]
    cosines = f @ F.normalize(sums, dim=1).mT
    own = (f * F.normalize(others, dim=1)).sum(1, keepdim=True)
    logits = _TEMPERATURE * cosines.scatter(1, labels[:, None], own)[:, there]
    targets = torch.searchsorted(there, labels)
    losses = F.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)
    return (losses / shots[labels]).sum() / len(there)


def _some(rows: Tensor, labels: Tensor, most: int) -> Tensor:
    """Choose at most `most` rows, class by class in turn, of as many classes as can have two."""
    one_hot = labels[:, None] == labels.unique()
    place = (one_hot.cumsum(0) * one_hot).sum(1)  # 1 for the first of its class
    classes = labels[place == 1][: most // 2]  # in random order, as the rows are
    rows, place = (x[torch.isin(labels, classes)] for x in (rows, place))
    return rows[place.sort(stable=True).indices[:most]]
