"""Measurement of the accuracy and time of patterns, task by task.

All patterns are tried on each task, each time starting with another one, so that whatever slows
down the machine for a while slows down all of them. Times, and ratios of two times on the same
task, are medians over tasks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median
from typing import Any

import torch

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.intervals import half_width
from fewshot_lite.core.progress import OnDone
from fewshot_lite.evaluation.caches import ImageCache
from fewshot_lite.evaluation.cost import MacMeter
from fewshot_lite.evaluation.engine import score_pixels
from fewshot_lite.evaluation.lambda_search.options import what_to_give
from fewshot_lite.evaluation.methods import FineTunedFilm, LearnerMethod, Method, RefinedMethod
from fewshot_lite.evaluation.names import ModelName
from fewshot_lite.evaluation.opening import Session, open_models
from fewshot_lite.evaluation.protocols.base import EvaluationProtocol, EvaluationTask
from fewshot_lite.evaluation.results import Figure
from fewshot_lite.maml.gradient_learner import GradientLearner
from fewshot_lite.maml.refined import Refinement
from fewshot_lite.networks.stages import Staged


class Subject:
    """A model whose layers can be updated or left as they are."""

    def __init__(self, method: Method, inner_steps: int | None) -> None:
        """Wrap a method of `open_models`, whose settings are changed from then on.

        Args:
            inner_steps: T; by default the method's own.

        Raises:
            UsageError: it has no inner loop.
        """
        self.name, self.image_size = method.name, method.image_size
        self.device = method.device
        self._method = method
        self.way: int | None = None
        """The number of classes of its head; None for any."""
        self.head_stays = False
        """Whether every pattern must update the head, as it starts at zero."""
        self.something_adapts = True
        """Whether a pattern must update something; a head of class means classifies without."""
        self.fixed = 0
        """The number of lowest stages that no pattern updates."""
        self.nested = False
        """Whether patterns update all stages from one on: the lowest alone determines the time."""
        if isinstance(method, RefinedMethod):
            method.settings = Refinement(steps=inner_steps or Refinement.steps)  # of weights
            self.layers, self.head_stays = method.refined.layers, True
            self.fixed, self.nested = method.learner.first_stage, True
            self.inner_steps = method.settings.steps
        elif isinstance(method, LearnerMethod):
            learner = method.learner
            if not isinstance(learner, GradientLearner):
                raise UsageError(f"{self.name}: {learner.name} has no inner loop. {what_to_give()}")
            learner.inner_steps = inner_steps or learner.inner_steps
            learner.set_pattern(None)
            self.layers, self.way = learner.layers, learner.head.way
            self.fixed = learner.first_stage
            self.something_adapts = self.way is not None
            self.inner_steps = learner.inner_steps
        else:
            assert isinstance(method, FineTunedFilm)
            method.settings = replace(method.settings, steps=inner_steps or method.settings.steps)
            self.layers, self.head_stays = Staged(method.backbone).layers, True
            self.inner_steps = method.settings.steps

    @property
    def full(self) -> str:
        """The pattern that updates all layers that can be updated."""
        return "0" * self.fixed + "1" * (len(self.layers) - self.fixed)

    def under(self, pattern: str) -> Method:
        """Set the method's pattern and return the method."""
        method: Any = self._method
        if isinstance(method, RefinedMethod | FineTunedFilm):
            method.settings = replace(method.settings, pattern=pattern)
        else:
            method.learner.set_pattern(pattern)
        return self._method


def open_subject(name: ModelName, inner_steps: int | None, device: str) -> Subject:
    """Load the model to search, in float32; for errors see `open_models` and `Subject`."""
    (opened,) = open_models([name], Session(device=device, precision="float32"))
    return Subject(opened.method, inner_steps)


@dataclass(frozen=True)
class Measured:
    """The results of one pattern, a value for each of the first tasks."""

    pattern: str
    accuracies: tuple[float, ...]
    times: tuple[float, ...]
    """Milliseconds to adapt."""
    full_times: tuple[float, ...]
    """Those of the full pattern, measured together with them."""
    macs: float
    """Multiply-accumulates of adapting to the first task, forward and backward."""

    @property
    def accuracy(self) -> Figure:
        """Mean accuracy with its 95 % interval."""
        return Figure(fmean(self.accuracies), half_width(self.accuracies))

    @property
    def ms(self) -> float:
        """Median time to adapt in milliseconds."""
        return median(self.times)

    @property
    def ratio(self) -> float:
        """Median share of the full pattern's time on the same task."""
        return median(t / full for t, full in zip(self.times, self.full_times, strict=True))

    def minus(self, other: Measured) -> Figure:
        """Mean difference of accuracy to another pattern, task by task."""
        pairs = zip(self.accuracies, other.accuracies, strict=False)
        differences = [a - b for a, b in pairs]
        return Figure(fmean(differences), half_width(differences))

    def to_json(self, full: Measured) -> dict[str, Any]:
        """Return the figures as JSON-able values."""
        return {
            "pattern": self.pattern,
            "accuracy": self.accuracy.to_json(),
            "difference": self.minus(full).to_json(),
            "adapt_ms": self.ms,
            "times_as_fast": 1 / self.ratio,
            "adapt_macs": self.macs,
            "tasks": len(self.accuracies),
        }


class Bench:
    """The tasks to measure on, and the multiply-accumulates counted so far."""

    def __init__(self, subject: Subject, protocol: EvaluationProtocol, images: ImageCache) -> None:
        self._subject, self._protocol, self._images = subject, protocol, images
        self._macs: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._protocol)

    def measure(
        self,
        patterns: Sequence[str],
        full: str,
        *,
        on_done: OnDone = lambda done, total: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> tuple[dict[str, Measured], bool]:
        """Measure patterns on all tasks, or on the first ones if stopped.

        Args:
            patterns: with or without the full one, which is always measured.
            on_done: called with (trials done, trials in all); a trial is a pattern on a task.
            stop: asked after each trial; tasks that not all patterns were tried on are left out.

        Returns:
            The results by pattern, and whether all tasks are done.

        Raises:
            FewshotError: adapting diverged; the message names the pattern.
            KeyboardInterrupt: stopped before the first task was done.
        """
        patterns = list(dict.fromkeys([full, *patterns]))
        new = [p for p in patterns if p not in self._macs]
        total, done = len(new) + len(self) * len(patterns), 0
        accuracies: dict[str, list[float]] = {p: [] for p in patterns}
        times: dict[str, list[float]] = {p: [] for p in patterns}

        def count_trial() -> bool:
            nonlocal done
            done += 1
            on_done(done, total)
            return done == total or not stop()

        for pattern in new:
            self._count_macs(pattern)
            if not count_trial():
                raise KeyboardInterrupt
        for number in range(len(self)):
            task = self._protocol.task(number)
            first = number % len(patterns)
            for pattern in patterns[first:] + patterns[:first]:
                accuracy, ms = self._try(pattern, task)
                accuracies[pattern].append(accuracy)
                times[pattern].append(ms)
                if not count_trial():
                    complete = min(map(len, times.values()))
                    if not complete:
                        raise KeyboardInterrupt
                    return self._collect(accuracies, times, full, complete), False
        return self._collect(accuracies, times, full, len(self)), True

    def _collect(
        self,
        accuracies: Mapping[str, list[float]],
        times: Mapping[str, list[float]],
        full: str,
        tasks: int,
    ) -> dict[str, Measured]:
        """Return the results of the first `tasks` tasks."""
        reference = tuple(times[full][:tasks])
        return {
            p: Measured(p, tuple(shares[:tasks]), tuple(times[p][:tasks]), reference, self._macs[p])
            for p, shares in accuracies.items()
        }

    def _try(self, pattern: str, task: EvaluationTask) -> tuple[float, float]:
        """Return the accuracy on a task, and the milliseconds to adapt."""
        subject, (support, query) = self._subject, self._pixels(task)
        with self._named(pattern):
            score = score_pixels(
                subject.under(pattern),
                support,
                torch.tensor(task.support_labels),
                len(task.class_names),
                [query],
                task.query_labels,
            )
        assert score.cost is not None
        assert score.cost.adapt_ms is not None
        return score.units[0], score.cost.adapt_ms

    def _count_macs(self, pattern: str) -> None:
        """Count the multiply-accumulates on the first task, which also warms up."""
        task = self._protocol.task(0)
        device = self._subject.device
        support = self._pixels(task)[0].to(device)
        labels = torch.tensor(task.support_labels, device=device)
        with self._named(pattern), MacMeter() as meter:
            self._subject.under(pattern).adapt(support, labels, len(task.class_names))
        self._macs[pattern] = meter.macs

    @contextlib.contextmanager
    def _named(self, pattern: str) -> Iterator[None]:
        """Put the pattern before the message of an error."""
        try:
            yield
        except FewshotError as error:
            raise type(error)(f"Pattern {pattern}: {error}") from None

    def _pixels(self, task: EvaluationTask) -> tuple[torch.Tensor, torch.Tensor]:
        size = self._subject.image_size
        return self._images.images(task.support, size), self._images.images(task.query, size)
