"""Meta-training: learn from tasks, with gradients through LITE, a model that adapts to new ones.

All randomness of a task is derived from (seed, task number), so a run that was killed and resumed
ends like one that was not. Weights are bit-identical only for the same versions, device, precision
and number of threads, which the checkpoint records: sums over threads round differently, and Adam
magnifies that.

Started by torchrun, all ranks call `meta_train` alike; the first one writes, and the result does
not depend on their number.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from fewshot_lite.core.config import WORKERS, check_number, switches_checked
from fewshot_lite.core.devices import pick_device
from fewshot_lite.core.figures import check_figure, require_matplotlib
from fewshot_lite.core.files import check_output
from fewshot_lite.core.precision import compiling, tf32
from fewshot_lite.core.progress import Progress, Report
from fewshot_lite.core.ranks import Ranks, device_name, join
from fewshot_lite.core.stopping import StopRequest
from fewshot_lite.data.image_cache import check_cache_folder
from fewshot_lite.training import meta_state as states
from fewshot_lite.training import state as state_files
from fewshot_lite.training.curves import plot_curves
from fewshot_lite.training.gradients import GradientSum
from fewshot_lite.training.log import Log, Replacements, check_tensorboard
from fewshot_lite.training.meta_config import MetaTrainConfig
from fewshot_lite.training.meta_setup import Setup, facts, prepare
from fewshot_lite.training.meta_state import RunState
from fewshot_lite.training.meta_step import step_gradients
from fewshot_lite.training.optimisation import (
    gradient_norm,
    make_optimizer,
    schedule,
    set_learning_rate,
)
from fewshot_lite.training.prefetch import Prefetch
from fewshot_lite.training.tasks import Cache


@dataclass(frozen=True)
class MetaTrainResult:
    """The result of a run."""

    output: Path
    finished: bool
    tasks: int
    """Tasks done, of `total`."""
    total: int
    loss: float
    """Average over about the last 100 tasks; `accuracy` likewise."""
    accuracy: float
    validation: dict[str, float] = field(default_factory=dict)
    """Accuracy by data set in the best validation, whose weights are in `output`."""
    exact: int = 0
    """Tasks with at most H support images, all of which LITE back-propagated."""
    skipped: int = 0
    """Steps skipped as their loss or gradient was not finite. Like `exact`, counted over all
    resumptions of the run."""
    unreadable: int = 0
    """Photos that were left out; the log names them."""
    replaced: tuple[str, ...] = ()
    """Photos that could not be read during the run and were replaced, with the reasons; since the
    last resumption only, while the log names all."""
    not_validated: int = 0
    """Classes with too few photos for validation; the log names them."""
    log: Path | None = None
    best_after: int | None = None
    """Tasks done at the best validation."""
    terminated: bool = False
    """Whether SIGTERM stopped it before it was finished."""


@switches_checked
def meta_train(
    data: Path,
    output: Path,
    config: MetaTrainConfig,
    *,
    validate: Path | None = None,
    device: str = "auto",
    resume: bool = False,
    force: bool = False,
    workers: int | None = None,
    cache: Path | None = None,
    tensorboard: Path | None = None,
    plot: Path | None = None,
    report: Report | None = None,
    notice: Callable[[str], None] | None = None,
) -> MetaTrainResult:
    """Meta-train a learner on tasks from a folder of classes, or from several data sets.

    Args:
        data: an image folder or a collection of them (see `images.folders`), or converted data sets
            of Meta-Dataset (the TRAIN classes are used) or ORBIT (its train users).
        output: the checkpoint, with the weights of the best validation, or else the last ones. The
            state to resume from and the log are written beside it.
        validate: image folder(s) for validation, Meta-Dataset's VALID classes or ORBIT's validation
            users; by default those of `data`, or every tenth of its classes, if
            `config.validate_every` is set.
        resume: continue the run that wrote `output`'s state.
        workers: processes that prepare tasks; None chooses a number, see `training.prefetch`. Does
            not affect the result, nor does the cache.
        cache: folder of resized images, see `data.image_cache`.
        tensorboard: folder that curves are written to as well.
        plot: figure of the curves, .png, .svg or .pdf, written at the end.
        report: called with progress.
        notice: called with messages for the user, e.g. that a state was damaged.

    Raises:
        UsageError, FewshotError: invalid configuration, data or output; too many consecutive steps
            with a loss that is not finite; ranks that differ, or one that died.
    """
    config.check()
    if workers is not None:
        check_number("--workers", workers, WORKERS)
    with join() as group:
        if not group.first:
            report = notice = None
        where = _agree_on_device(config, device, group)

        def check_files() -> None:
            if group.first:
                _check_outputs(data, output, tensorboard, plot, resume=resume, force=force)
            if cache is not None:
                check_cache_folder(cache)

        group.together(check_files)
        image_cache = None if cache is None else Cache(cache, notice)
        setup = group.together(
            lambda: prepare(
                data, config, where, validate=validate, cache=image_cache, report=report
            )
        )
        group.check_same({"data": setup.fingerprint()}, "All ranks must see the same files.")
        run = _Run(setup, config, output, group)
        with tf32(where, config.tf32), compiling(config.compile):
            run.begin(resume=resume, tensorboard=tensorboard, notice=notice)
            result = run.train(workers, report)
        if plot is not None and result.tasks > 0:
            log = state_files.log_path(output)
            group.together(lambda: plot_curves(log, plot) if group.first else None)
        return result


def _agree_on_device(config: MetaTrainConfig, device: str, group: Ranks) -> torch.device:
    """Check that all ranks have the same settings; return the device of this one."""
    where = group.together(lambda: pick_device(device_name(device)))
    if where.type == "cuda" and group.size > 1:
        torch.cuda.set_device(where)
    group.check_same(facts(config, where), "Start all ranks alike.")
    return where


def _check_outputs(
    data: Path,
    output: Path,
    tensorboard: Path | None,
    plot: Path | None,
    *,
    resume: bool,
    force: bool,
) -> None:
    """Raise UsageError for files that cannot be written or must not be overwritten."""
    if resume:
        state_files.check_resume(output)
    else:
        state_files.check_new_run(output, force=force)
    if tensorboard is not None:
        check_tensorboard(tensorboard)
    if plot is not None:
        check_figure(plot, output, data=[data])
        check_output(plot, force=force or resume, flag="--plot")
        require_matplotlib()


class _Run:
    """A run on one of its ranks, new or resumed."""

    def __init__(self, setup: Setup, config: MetaTrainConfig, output: Path, group: Ranks) -> None:
        self.setup, self.config, self.output, self.group = setup, config, output, group
        self.optimizer = make_optimizer(setup.learner, config)
        setup.standardise(setup.learner)
        self.state = RunState.begin(setup.learner, config)

    def begin(
        self, *, resume: bool, tensorboard: Path | None, notice: Callable[[str], None] | None
    ) -> None:
        """Restore the last checkpoint, if `resume` is set and there is one; open the log."""
        setup, group, settings = self.setup, self.group, states.settings(self.setup, self.config)
        damaged = ""
        if resume:
            state, damaged = state_files.resume(
                self.output, group, setup.learner, self.optimizer, settings
            )
            if state is not None:
                self.state.restore(state)
        begun = self.state.done
        path = state_files.log_path(self.output) if group.first else None
        self.log = log = Log(path, begun=begun, append=begun > 0, board=tensorboard)
        self.replaced = Replacements(log, group, lambda: self.state.done)
        facts = {"task": begun, "config": settings, "ranks": group.size}
        log.begin(damaged=damaged, unreadable=setup.train.unreadable, notice=notice, **facts)
        for name, classes in setup.validation.not_validated:
            reason = "too few photos for validation"
            log.write(event="left out", data_set=name, classes=classes, reason=reason)

    def train(self, workers: int | None, report: Report | None) -> MetaTrainResult:
        """Run the training loop."""
        setup, config, group, state, log = self.setup, self.config, self.group, self.state, self.log
        learner, optimizer, replaced = setup.learner, self.optimizer, self.replaced
        gradients = GradientSum(learner)
        own_tasks = [number for numbers in state.steps() for number in group.share(numbers)]
        started, begun = time.perf_counter(), state.done
        with (
            contextlib.closing(log),
            StopRequest() as stop,
            Prefetch(setup.train, own_tasks, setup.where, workers, replaced.note) as tasks,
        ):
            for numbers in state.steps():
                if state.gave_up or group.any(bool(stop)):
                    break
                result = step_gradients(setup, config, numbers, tasks, gradients, group)
                norm = float(gradient_norm(learner, clip=config.clip_norm))
                learned = result.finite and math.isfinite(norm)
                if learned:
                    set_learning_rate(optimizer, schedule(numbers.start, config))
                    optimizer.step()
                    setup.standardise(learner)
                state.count(result, learner, learned=learned)
                if not learned:
                    reason = "loss or gradient not finite"
                    log.write(event="skipped", task=state.done, reason=reason)
                    state.check()
                speed = (state.done - begun) / (time.perf_counter() - started)
                log.write(
                    event="step",
                    task=state.done,
                    **state.averages.values,
                    gradient_norm=norm,
                    tasks_per_second=round(speed, 3),
                    waiting=round(tasks.share_waited(), 4),
                    **({"negative_curvature": n} if (n := state.negative_curvature) else {}),
                )
                if report is not None:
                    values = {**state.averages.values, "tasks/s": speed}
                    report(Progress(state.done, config.tasks, "Meta-training", values))
                if setup.validation.pools and state.validation_due(len(numbers)):
                    self._validate(report)
                if state.save_due(len(numbers)):
                    self._save()
            self._save()
            terminated = group.any(stop.terminated) and not state.finished
            log.write(event="end", task=state.done, finished=state.finished)
        if state.finished and group.first:
            state_files.clear(self.output)
        return self._result(terminated)

    def _validate(self, report: Report | None) -> None:
        """Evaluate the weights, and keep them if they are the best so far."""
        setup, state, validation = self.setup, self.state, self.setup.validation
        validation.on_replaced = self.replaced.note
        learner = states.weights_to_keep(setup, state)
        scores = validation.run(learner, setup.passes, report, self.group)
        best = state.best.offer(state.done, scores, learner.state_dict())
        self.log.write(event="validation", task=state.done, accuracy=scores, best=best)

    def _save(self) -> None:
        """Write state and model on the first rank."""
        self.replaced.exchange()

        def save() -> None:
            if self.group.first:
                states.save(self.output, self.setup, self.optimizer, self.state)

        self.group.together(save)

    def _result(self, terminated: bool) -> MetaTrainResult:
        state, setup = self.state, self.setup
        return MetaTrainResult(
            output=self.output,
            finished=state.finished,
            tasks=state.done,
            total=self.config.tasks,
            loss=state.averages.values.get("loss", math.nan),
            accuracy=state.averages.values.get("accuracy", math.nan),
            validation=state.best.scores,
            exact=state.exact,
            skipped=state.skipped,
            unreadable=len(setup.train.unreadable),
            replaced=tuple(f"{path}: {why}" for path, why in self.replaced.reasons.items()),
            not_validated=sum(len(classes) for _, classes in setup.validation.not_validated),
            log=state_files.log_path(self.output),
            best_after=state.best.task or None,
            terminated=terminated,
        )
