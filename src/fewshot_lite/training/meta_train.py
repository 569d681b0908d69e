"""Meta-training: tasks in, gradients through LITE, a checkpoint that adapts out."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from fewshot_lite.core import ranks
from fewshot_lite.core.config import WORKERS, check_number
from fewshot_lite.core.devices import pick_device
from fewshot_lite.core.precision import tf32
from fewshot_lite.core.progress import Progress, Report
from fewshot_lite.data.image_cache import check_cache_folder
from fewshot_lite.training import run as training
from fewshot_lite.training.averaging import AveragedWeights
from fewshot_lite.training.curves import plot_curves
from fewshot_lite.training.meta_checkpoints import Checkpoints
from fewshot_lite.training.meta_config import MetaTrainConfig
from fewshot_lite.training.meta_log import Outputs, Replacements, open_log
from fewshot_lite.training.meta_setup import Setup, facts, prepare
from fewshot_lite.training.meta_state import Run
from fewshot_lite.training.meta_step import StepGradients
from fewshot_lite.training.optimisation import gradient_norm, make_optimizer, set_learning_rate
from fewshot_lite.training.prefetch import Prefetch
from fewshot_lite.training.tasks import Cache


@dataclass(frozen=True)
class MetaTrainResult:
    """How a run ended."""

    output: Path
    finished: bool
    tasks: int
    total: int
    loss: float
    """Averages over about the last 100 tasks."""
    accuracy: float
    validation: dict[str, float] = field(default_factory=dict)
    """Accuracy of the best validation, by data set; the weights in `output` are those of it."""
    exact: int = 0
    """Tasks with no more than H support images, all of which LITE back-propagated."""
    skipped: int = 0
    """Steps left out because their loss or gradient was not finite. This count and that of `exact`
    are of the whole run, however often it was resumed."""
    unreadable: int = 0
    """Photos that were left out; the log names them."""
    replaced: tuple[str, ...] = ()
    """Photos that could no longer be read when they were to be used, and why: others took their
    place. Of this run alone, where it was resumed; the log names all."""
    not_validated: int = 0
    """Classes of validation that were left out as they have too few photos; the log names them."""
    log: Path | None = None
    best_after: int | None = None
    """Tasks done at the best validation."""
    terminated: bool = False
    """Stopped by SIGTERM, before it was finished."""


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

    Started by torchrun, all ranks call it alike; the first writes, and the result does not depend
    on their number.

    Args:
        data: an image folder or a collection of them (see `data.folders`), or converted data sets
            of Meta-Dataset, of which the TRAIN classes are taken, or ORBIT, with its train users.
        output: the checkpoint; its state to resume from and its log lie beside it. With validation
            it holds the weights that scored best, else the last ones.
        validate: image folder(s) for validation, Meta-Dataset's VALID classes or ORBIT's
            validation users; without, those of `data`, or every tenth of its classes, if
            `config.validate_every` is set.
        resume: go on with the run that wrote `output`'s state.
        workers: processes that prepare tasks, see `feed`; None for what pays. Does not change what
            is learned, and nor does the cache.
        cache: folder of resized images, see `data.image_cache`.
        tensorboard: folder that curves are written to as well.
        plot: figure of the curves, .png, .svg or .pdf, written at the end.
        report: called with progress.
        notice: called with what a person should know, e.g. that a state was damaged.

    Raises:
        UsageError, FewshotError: bad configuration, data or output; too many losses in a row that
            are not finite; ranks that differ, or one that died.
    """
    config.check()
    if workers is not None:
        check_number("--workers", workers, WORKERS)
    outputs = Outputs(output, tensorboard, plot)
    with ranks.join() as group:
        if not group.first:
            report = notice = None
        where = group.together(lambda: pick_device(ranks.device_name(device)))
        if where.type == "cuda" and group.size > 1:
            torch.cuda.set_device(where)
        group.check_same(facts(config, where), "Start all ranks alike.")

        def check_files() -> None:
            if group.first:
                outputs.check(resume=resume, force=force)
            if cache is not None:
                check_cache_folder(cache)

        group.together(check_files)
        kept = None if cache is None else Cache(cache, notice)
        setup = group.together(
            lambda: prepare(data, config, where, validate=validate, cache=kept, report=report)
        )
        group.check_same({"data": setup.fingerprint()}, "All ranks must see the same files.")
        with tf32(where, config.tf32):
            return _train(setup, config, outputs, group, resume, workers, report, notice)


def _train(
    setup: Setup,
    config: MetaTrainConfig,
    outputs: Outputs,
    group: ranks.Ranks,
    resume: bool,
    workers: int | None,
    report: Report | None,
    notice: Callable[[str], None] | None,
) -> MetaTrainResult:
    """The loop."""
    learner, validation = setup.learner, setup.validation
    optimizer = make_optimizer(learner, config)
    setup.standardise()
    run = Run(config, None if config.ema is None else AveragedWeights(learner, config.ema))
    checkpoints = Checkpoints(outputs.output, setup, optimizer, run, group)
    damaged = checkpoints.resume() if resume else ""
    log = open_log(outputs, group, setup, checkpoints.settings(), begun=run.done)
    if damaged:
        log.write(event="damaged state", reason=damaged)
        if notice is not None:
            notice(damaged)
    replaced = Replacements(log, group, lambda: run.done)
    validation.on_replaced = replaced.note
    mine = [number for numbers in run.steps() for number in group.share(numbers)]
    started, begun = time.perf_counter(), run.done

    def save() -> None:
        replaced.exchange()
        group.together(checkpoints.save)

    with (
        contextlib.closing(log),
        training.StopRequest() as stop,
        Prefetch(
            setup.train, mine, setup.where, workers=workers, on_replaced=replaced.note
        ) as feed,
    ):
        gradients = StepGradients(setup, config, feed, group)
        for numbers in run.steps():
            if run.gave_up or group.any(bool(stop)):
                break
            figures = gradients.take(numbers)
            norm = float(gradient_norm(learner, clip=config.clip_norm))
            learned = figures.finite and math.isfinite(norm)
            if learned:
                set_learning_rate(optimizer, numbers.start, config)
                optimizer.step()
                setup.standardise()
            run.count(figures, learned=learned)
            if not learned:
                log.write(event="skipped", task=run.done, reason="loss or gradient not finite")
                run.check()
            speed = (run.done - begun) / (time.perf_counter() - started)
            counts = {"negative_curvature": run.negative_curvature}
            log.write(
                event="step",
                task=run.done,
                **run.averages.values,
                gradient_norm=norm,
                tasks_per_second=round(speed, 3),
                waiting=round(feed.share_waited(), 4),
                **{name: count for name, count in counts.items() if count},
            )
            if report is not None:
                values = {**run.averages.values, "tasks/s": speed}
                report(Progress(run.done, config.tasks, "Meta-training", values))
            if validation.pools and run.validation_due(len(numbers)):
                with checkpoints.weights_in_use():
                    scores = validation.run(learner, setup.micro_batch, setup.cast, report, group)
                    is_best = run.best.offer(run.done, scores, learner.state_dict())
                log.write(event="validation", task=run.done, accuracy=scores, best=is_best)
            if run.save_due(len(numbers)):
                save()
        save()
        terminated = group.any(stop.terminated) and not run.finished
        log.write(event="end", task=run.done, finished=run.finished)
    if run.finished:
        checkpoints.clear()
    if outputs.plot is not None and run.done > 0:
        plot = outputs.plot
        group.together(lambda: plot_curves(outputs.log, plot) if group.first else None)
    return MetaTrainResult(
        output=outputs.output,
        finished=run.finished,
        tasks=run.done,
        total=config.tasks,
        loss=run.averages.values.get("loss", math.nan),
        accuracy=run.averages.values.get("accuracy", math.nan),
        validation=run.best.scores,
        exact=run.exact,
        skipped=run.skipped,
        unreadable=len(setup.train.unreadable),
        replaced=tuple(f"{path}: {reason}" for path, reason in replaced.found.items()),
        not_validated=sum(len(classes) for _, classes in validation.left_out),
        log=outputs.log,
        best_after=run.best.task or None,
        terminated=terminated,
    )
