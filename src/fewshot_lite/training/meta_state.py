"""How far a run of meta-training has come, and what of it is written: its state and its model."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from fewshot_lite import __version__
from fewshot_lite.core import checkpoint
from fewshot_lite.core.devices import precision_of
from fewshot_lite.core.errors import FewshotError
from fewshot_lite.learners.base import Learner
from fewshot_lite.networks.backbone import has_depthwise_convolutions
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.training.log import Averages
from fewshot_lite.training.meta_config import BY_GRADIENT, MetaTrainConfig
from fewshot_lite.training.meta_setup import Setup, without_paths
from fewshot_lite.training.meta_step import StepResult
from fewshot_lite.training.state import State, save_state, state_path

#: A run ends after this many steps in a row whose loss is not finite.
_MOST_FAILURES = 5


def averaged_learner(learner: Learner, decay: float) -> AveragedModel:
    """An exponential average of a learner's weights (Polyak & Juditsky 1992).

    The decay grows to its full value over the first updates, min(decay, (1 + n) / (10 + n)), so
    that the first weights do not weigh on a short run.
    """

    def average(mean: Tensor, weights: Tensor, n: Tensor | int) -> Tensor:
        return mean.lerp(weights, 1 - min(decay, (1 + int(n)) / (10 + int(n))))

    return AveragedModel(learner, avg_fn=average)


@dataclass
class BestWeights:
    """The best validation so far, with the weights that were validated."""

    task: int = 0
    """Tasks done then."""
    scores: dict[str, float] = field(default_factory=dict)
    """Accuracy by data set, and their mean, which decides; empty before the first validation."""
    waited: int = 0
    """Validations since."""
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def offer(self, task: int, scores: dict[str, float], tensors: Mapping[str, Tensor]) -> bool:
        """Take in a validation; True if it is the best so far (of equals, the first is)."""
        if self.scores and not scores["mean"] > self.scores["mean"]:
            self.waited += 1
            return False
        self.task, self.scores, self.waited = task, scores, 0
        self.tensors = {name: t.detach().to("cpu", copy=True) for name, t in tensors.items()}
        return True


@dataclass
class RunState:
    """Counts, averages and the best weights so far; the same on all ranks."""

    config: MetaTrainConfig
    averaged: AveragedModel | None = None
    """The average of the learner's weights, if there is one."""
    done: int = 0
    """Tasks."""
    averages: Averages = field(default_factory=Averages)
    best: BestWeights = field(default_factory=BestWeights)
    exact: int = 0
    skipped: int = 0
    negative_curvature: int = 0
    failures: int = 0
    """Steps that were skipped, in a row."""

    @classmethod
    def begin(cls, learner: Learner, config: MetaTrainConfig) -> RunState:
        """A run that has not taken a step."""
        return cls(config, None if config.ema is None else averaged_learner(learner, config.ema))

    @property
    def gave_up(self) -> bool:
        """Whether validations have not become better for too long."""
        return 0 < self.config.patience <= self.best.waited

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do."""
        return self.done >= self.config.tasks or self.gave_up

    def steps(self) -> Iterator[range]:
        """Numbers of the tasks of each step to come."""
        size, tasks = self.config.tasks_per_step, self.config.tasks
        return (range(n, min(n + size, tasks)) for n in range(self.done, tasks, size))

    def validation_due(self, tasks: int) -> bool:
        """Whether it is time to validate, after a step of so many tasks; also at the end."""
        every = self.config.validate_every
        return every > 0 and (self._passed(every, tasks) or self.done == self.config.tasks)

    def save_due(self, tasks: int) -> bool:
        """Whether to save after a step of so many tasks; at the end it is in any case."""
        return self._passed(self.config.save_every, tasks) and self.done < self.config.tasks

    def _passed(self, period: int, tasks: int) -> bool:
        return self.done // period > (self.done - tasks) // period

    def count(self, result: StepResult, learner: Learner, *, learned: bool) -> None:
        """Take in a step; `learned` tells whether it was used, or skipped."""
        self.done += len(result.losses)
        self.exact += result.exact
        self.negative_curvature += result.negative_curvature
        if not learned:
            self.failures += 1
            self.skipped += 1
            return
        self.failures = 0
        for loss, accuracy in zip(result.losses, result.accuracies, strict=True):
            self.averages.add(loss=loss, accuracy=accuracy)
        if self.averaged is not None:
            self.averaged.update_parameters(learner)

    def check(self) -> None:
        """Raise FewshotError if too many steps were skipped in a row."""
        nothing_learned = self.done == self.config.tasks and not self.averages.count
        if self.failures == _MOST_FAILURES or nothing_learned:
            inner = " or --inner-lr" if self.config.learner in BY_GRADIENT else ""
            raise FewshotError(
                f"The loss was not finite in {self.failures} steps in a row (task {self.done}). "
                f"Lower --lr (now {self.config.lr}){inner}, use --precision float32, or take a "
                "backbone that was trained longer."
            )

    def restore(self, state: State) -> None:
        """Go on from what `save` wrote."""
        notes = state.notes
        self.done, self.averages = state.step, Averages(**notes["averages"])
        self.exact, self.skipped = notes["exact"], notes["skipped"]
        self.negative_curvature = notes["negative_curvature"]
        best = checkpoint.under("best.", state.tensors)
        self.best = BestWeights(**notes["best"], tensors=best)
        if self.averaged is not None:
            self.averaged.load_state_dict(checkpoint.under("average.", state.tensors))


def settings(setup: Setup, config: MetaTrainConfig) -> dict[str, Any]:
    """The facts that must be the same when the run goes on."""
    found = asdict(config) | {"images": setup.train.images, "classes": setup.train.classes}
    del found["save_every"], found["micro_batch"]  # do not change what is learned
    return found


def weights_to_keep(setup: Setup, run: RunState) -> Learner:
    """The weights to validate, and to save where nothing is validated: the average, if any."""
    if run.averaged is None:
        return setup.learner
    averaged = cast(Learner, run.averaged.module)
    setup.standardise(averaged)
    return averaged.eval()


def save(output: Path, setup: Setup, optimizer: Optimizer, run: RunState) -> None:
    """Write the state, then the model: the best one, if there was a validation.

    Raises:
        FewshotError: they cannot be written; what is there is whole.
    """
    best, config = run.best, run.config
    kept = {"task": best.task, "scores": best.scores, "waited": best.waited}
    counts = {name: getattr(run, name) for name in ("exact", "skipped", "negative_curvature")}
    notes = {"averages": asdict(run.averages), "best": kept, **counts}
    tensors = {f"best.{name}": tensor for name, tensor in best.tensors.items()}
    if run.averaged is not None:
        tensors |= {f"average.{k}": tensor for k, tensor in run.averaged.state_dict().items()}
    save_state(
        state_path(output),
        setup.learner,
        optimizer,
        run.done,
        settings(setup, config),
        notes,
        tensors,
    )
    depthwise = has_depthwise_convolutions(setup.learner.backbone)
    record = {
        "training": without_paths(asdict(config)),
        "tasks": [run.done, config.tasks],
        "data": {pool.name: pool.class_names for pool in setup.train.pools},
        "backbone": {k: v for k, v in setup.source.items() if k != "pretrained"},
        "pretraining": setup.source.get("pretrained", {}),
        "figures": {**run.averages.values, "validation": best.scores},
        "version": __version__,
        "computed": {
            "torch": torch.__version__,
            "device": setup.where.type,
            "threads": torch.get_num_threads(),
            "precision": precision_of(setup.where, config.precision, depthwise=depthwise),
        },
    }
    learner = weights_to_keep(setup, run)
    if best.scores:
        record["best_after"] = best.task
        learner = with_weights(setup.learner, best.tensors)
    MetaModel(learner, setup.image_size, record).save(output, half=True)


def with_weights(learner: Learner, tensors: Mapping[str, Tensor]) -> Learner:
    """A copy of a learner, with other weights."""
    gradients = {name: p.grad for name, p in learner.named_parameters()}
    learner.zero_grad(set_to_none=True)  # copies would have them
    other = copy.deepcopy(learner)
    for name, parameter in learner.named_parameters():
        parameter.grad = gradients[name]
    other.load_state_dict(dict(tensors))
    return other
