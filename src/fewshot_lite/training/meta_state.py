"""The state of a meta-training run, and the files that it is saved to: state and model."""

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
    """Return an exponential average of a learner's weights (Polyak & Juditsky 1992).

    The decay increases over the first updates, min(decay, (1 + n) / (10 + n)), so that the initial
    weights do not dominate a short run.
    """

    def average(mean: Tensor, weights: Tensor, n: Tensor | int) -> Tensor:
        return mean.lerp(weights, 1 - min(decay, (1 + int(n)) / (10 + int(n))))

    return AveragedModel(learner, avg_fn=average)


@dataclass
class BestWeights:
    """The best validation so far, with its weights."""

    task: int = 0
    """Tasks done at that time."""
    scores: dict[str, float] = field(default_factory=dict)
    """Accuracy by data set, and "mean", the criterion; empty before the first validation."""
    waited: int = 0
    """Validations since."""
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def offer(self, task: int, scores: dict[str, float], tensors: Mapping[str, Tensor]) -> bool:
        """Store a validation and return True if it is better than the best so far."""
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
    """The average of the learner's weights (`--ema`)."""
    done: int = 0
    """Number of tasks done."""
    averages: Averages = field(default_factory=Averages)
    best: BestWeights = field(default_factory=BestWeights)
    exact: int = 0
    skipped: int = 0
    negative_curvature: int = 0
    failures: int = 0
    """Skipped steps in a row."""

    @classmethod
    def begin(cls, learner: Learner, config: MetaTrainConfig) -> RunState:
        """Return the state before the first step."""
        return cls(config, None if config.ema is None else averaged_learner(learner, config.ema))

    @property
    def gave_up(self) -> bool:
        """Whether the last `--patience` validations were no improvement."""
        return 0 < self.config.patience <= self.best.waited

    @property
    def finished(self) -> bool:
        """Whether all tasks are done, or the run gave up."""
        return self.done >= self.config.tasks or self.gave_up

    def steps(self) -> Iterator[range]:
        """Return the task numbers of each remaining step."""
        size, tasks = self.config.tasks_per_step, self.config.tasks
        return (range(n, min(n + size, tasks)) for n in range(self.done, tasks, size))

    def validation_due(self, tasks: int) -> bool:
        """Return whether to validate after a step of `tasks` tasks: periodically and at the end."""
        every = self.config.validate_every
        return every > 0 and (self._passed(every, tasks) or self.done == self.config.tasks)

    def save_due(self, tasks: int) -> bool:
        """Return whether to save after a step of `tasks` tasks, other than the last."""
        return self._passed(self.config.save_every, tasks) and self.done < self.config.tasks

    def _passed(self, period: int, tasks: int) -> bool:
        return self.done // period > (self.done - tasks) // period

    def count(self, result: StepResult, learner: Learner, *, learned: bool) -> None:
        """Record a step; `learned` is False if it was skipped."""
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
        """Restore the counts and weights that `save` wrote."""
        notes = state.notes
        self.done, self.averages = state.step, Averages(**notes["averages"])
        self.exact, self.skipped = notes["exact"], notes["skipped"]
        self.negative_curvature = notes["negative_curvature"]
        best = checkpoint.under("best.", state.tensors)
        self.best = BestWeights(**notes["best"], tensors=best)
        if self.averaged is not None:
            self.averaged.load_state_dict(checkpoint.under("average.", state.tensors))


def settings(setup: Setup, config: MetaTrainConfig) -> dict[str, Any]:
    """Return the settings and data sizes that must be the same when the run is resumed."""
    facts = asdict(config) | {"images": setup.train.images, "classes": setup.train.classes}
    del facts["save_every"], facts["micro_batch"]  # these do not affect the result
    return facts


def weights_to_keep(setup: Setup, run: RunState) -> Learner:
    """Return the learner to validate and to save: the average, if there is one."""
    if run.averaged is None:
        return setup.learner
    averaged = cast(Learner, run.averaged.module)
    setup.standardise(averaged)
    return averaged.eval()


def save(output: Path, setup: Setup, optimizer: Optimizer, run: RunState) -> None:
    """Write the state, then the model: that of the best validation, if there was one.

    Raises:
        FewshotError: they cannot be written; existing files stay whole.
    """
    best, config = run.best, run.config
    kept = {"task": best.task, "scores": best.scores, "waited": best.waited}
    counts = {name: getattr(run, name) for name in ("exact", "skipped", "negative_curvature")}
    notes = {"averages": asdict(run.averages), "best": kept, **counts}
    tensors = {f"best.{name}": tensor for name, tensor in best.tensors.items()}
    if run.averaged is not None:
        tensors |= {f"average.{k}": tensor for k, tensor in run.averaged.state_dict().items()}
    path, facts = state_path(output), settings(setup, config)
    save_state(path, setup.learner, optimizer, run.done, facts, notes, tensors)
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
    """Return a copy of a learner with other weights."""
    gradients = {name: p.grad for name, p in learner.named_parameters()}
    learner.zero_grad(set_to_none=True)  # not to be copied
    other = copy.deepcopy(learner)
    for name, parameter in learner.named_parameters():
        parameter.grad = gradients[name]
    other.load_state_dict(dict(tensors))
    return other
