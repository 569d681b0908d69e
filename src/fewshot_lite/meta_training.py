"""Meta-training: tasks in, gradients through LITE, a checkpoint that adapts out."""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from fewshot_lite import __version__, training
from fewshot_lite.arithmetic import check_tf32, compile_backbone, tf32
from fewshot_lite.backbones import has_depthwise_convolutions, load_backbone
from fewshot_lite.baselines import full_step, small_task
from fewshot_lite.config import MetaTrainConfig, check_workers
from fewshot_lite.curves import plot_curves
from fewshot_lite.data.folders import LabelledImages
from fewshot_lite.data.image_cache import check_cache_folder
from fewshot_lite.data.replacing import Replaced
from fewshot_lite.data.training_sets import has_validation_sets, scan_data_sets
from fewshot_lite.devices import autocast, pick_device, pick_micro_batch
from fewshot_lite.errors import FewshotError, UsageError
from fewshot_lite.feed import Feed
from fewshot_lite.figures import check_figure, require_matplotlib
from fewshot_lite.files import check_output
from fewshot_lite.learners import make_learner
from fewshot_lite.learners.base import Cast, Learner
from fewshot_lite.learners.film_learner import FilmLearner
from fewshot_lite.lite import LiteStep, lite_step
from fewshot_lite.meta_model import MetaModel
from fewshot_lite.task import Task
from fewshot_lite.task_source import (
    Cache,
    TrainingTasks,
    ValidationTasks,
    hold_out_classes,
    unseen_classes,
)
from fewshot_lite.tracking import TrackedLog, check_tensorboard
from fewshot_lite.training import Progress, Report

#: A run ends after this many steps in a row whose loss is not finite.
_MOST_FAILURES = 5
#: The first tasks, and how many of their images the set encoder's constants are taken from.
_REFERENCE_TASKS, _REFERENCE_IMAGES = 8, 256


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
    """Accuracy of the last validation, by data set."""
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
    notify: Callable[[str], None] | None = None,
) -> MetaTrainResult:
    """Meta-train a learner on tasks from a folder of classes, or from several data sets.

    Args:
        data: an image folder or a collection of them (see `data.folders`), or converted data sets
            of Meta-Dataset, of which the TRAIN classes are taken, or ORBIT, with its train users.
        output: the checkpoint; its state to resume from and its log lie beside it.
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
        notify: told what is out of the ordinary and no fault, one line each.

    Raises:
        UsageError, FewshotError: bad configuration, data or output; too many losses in a row that
            are not finite.
    """
    config.check()
    if resume:
        training.check_state(training.state_path(output))
    else:
        training.check_new_run(output, force=force)
    if validate is not None and not config.validate_every:
        raise UsageError(f"--validate {validate}: say how often with --validate-every.")
    check_workers(workers)
    if cache is not None:
        check_cache_folder(cache)
    if tensorboard is not None:
        check_tensorboard(tensorboard)
    if plot is not None:
        check_figure(plot, output)
        check_output(plot, force=force or resume, flag="--plot")
        require_matplotlib()
    where = pick_device(device)
    check_tf32(where, config.tf32)
    folders = scan_data_sets(data)
    for flag, names in (("no-flip", config.no_flip), ("tracks", config.tracks)):
        unknown = set(names) - {folder.name for folder in folders}
        if unknown:
            raise UsageError(f"--{flag} {min(unknown)}: there is no such data set in {data}.")
    backbone, source = load_backbone(
        config.backbone, config.weights, config.image_size, seed=config.seed
    )
    backbone.look_at(config.scales)
    pretrained = source.get("pretrained", {})
    size = backbone.image_size
    training.check_image_size(backbone, size)
    if config.compile:
        compile_backbone(backbone, where)
    if config.unseen_only:
        folders = [unseen_classes(folder, pretrained.get("classes")) for folder in folders]
    given = {"backbone_lr": config.backbone_lr, "metric": config.metric}
    hyperparameters = {name: value for name, value in given.items() if value is not None}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        learner = make_learner(config.learner, backbone, hyperparameters)
    held_out: Sequence[LabelledImages] = []
    if validate is not None or has_validation_sets(data):
        held_out = scan_data_sets(validate or data, "validation") if config.validate_every else []
    elif config.validate_every:
        folders, held_out = hold_out_classes(folders, config.min_way)
    kept = None if cache is None else Cache(cache, notify)
    train = TrainingTasks(folders, config, size, report, kept)
    validation = ValidationTasks(held_out, config, size, report, kept)

    learner.to(where).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(learner.parameter_groups(config.lr), lr=config.lr)
    for group in optimizer.param_groups:
        group["peak"] = group["lr"]
    micro_batch = config.micro_batch or pick_micro_batch(where, size)
    depthwise = has_depthwise_convolutions(backbone)
    cast = functools.partial(autocast, where, config.precision, depthwise=depthwise)

    state_file = training.state_path(output)
    settings = asdict(config) | {"images": train.images, "classes": train.classes}
    del settings["save_every"], settings["micro_batch"]  # do not change what is learned
    standardise = _standardiser(learner, train, where)
    if not resume:
        standardise()
    done, averages = 0, training.Averages()
    scores: dict[str, float] = {}
    exact = skipped = 0
    if resume:
        done, notes = training.load_state(state_file, learner, optimizer, settings)
        averages, scores = training.Averages(**notes["averages"]), notes["scores"]
        exact, skipped = notes.get("exact", 0), notes.get("skipped", 0)
    log_file = training.log_path(output)
    log = TrackedLog(training.JsonLines(log_file, append=resume), tensorboard, begun=done)
    log.write(event="start", task=done, config=settings, torch=torch.__version__)
    for path, reason in train.unreadable:
        log.write(event="unreadable", path=path, reason=reason)
    for name, classes in validation.left_out:
        reason = "too few photos for validation"
        log.write(event="left out", data_set=name, classes=classes, reason=reason)
    replaced: dict[str, str] = {}

    def note(item: Replaced) -> None:
        if item.source not in replaced:
            log.write(event="replaced", task=done, path=item.source, reason=item.reason)
        replaced[item.source] = item.reason

    validation.on_replaced = note
    failures = 0
    started, begun = time.perf_counter(), done

    def save() -> None:
        notes = {
            "averages": asdict(averages),
            "scores": scores,
            "exact": exact,
            "skipped": skipped,
        }
        training.save_state(state_file, learner, optimizer, done, settings, notes)
        record = {
            "training": asdict(config),
            "tasks": [done, config.tasks],
            "data": {pool.name: pool.class_names for pool in train.pools},
            "backbone": {k: v for k, v in source.items() if k != "pretrained"},
            "pretraining": pretrained,
            "figures": {**averages.values, "validation": scores},
            "version": __version__,
        }
        MetaModel(learner, size, record).save(output, half=True)

    numbers = range(done, config.tasks)
    with (
        contextlib.closing(log),
        training.StopRequest() as stop,
        tf32(where, config.tf32),
        Feed(train, numbers, where, workers=workers, on_replaced=note) as feed,
    ):
        while done < config.tasks and not stop:
            count = min(config.tasks_per_step, config.tasks - done)
            optimizer.zero_grad(set_to_none=True)
            steps = []
            for number in range(done, done + count):
                task = feed.next()
                random = training.generator(config.seed, 3, number)
                few = config.h is not None and len(task.support) <= config.h
                exact += config.gradient == "lite" and few
                steps.append(
                    _task_step(learner, task, config, random, 1 / count, micro_batch, cast)
                )
            before, done = done, done + count
            norm = _gradient_norm(learner)
            if all(math.isfinite(step.loss) for step in steps) and math.isfinite(norm):
                failures = 0
                for group in optimizer.param_groups:
                    group["lr"] = group["peak"] * _schedule(before, config)
                optimizer.step()
                standardise()
                for step in steps:
                    averages.add(loss=step.loss, accuracy=step.accuracy)
            else:
                failures += 1
                skipped += 1
                log.write(event="skipped", task=done, reason="loss or gradient not finite")
                nothing_learned = done == config.tasks and not averages.count
                if failures == _MOST_FAILURES or nothing_learned:
                    raise FewshotError(
                        f"The loss was not finite in {failures} steps in a row (task {done}). "
                        f"Lower --lr (now {config.lr}), use --precision float32, or take a "
                        "backbone that was trained longer."
                    )
            speed = (done - begun) / (time.perf_counter() - started)
            log.write(
                event="step",
                task=done,
                **averages.values,
                gradient_norm=norm,
                tasks_per_second=round(speed, 3),
                waiting=round(feed.share_waited(), 4),
            )
            if report is not None:
                values = {**averages.values, "tasks/s": speed}
                report(Progress(done, config.tasks, "Meta-training", values))
            every = config.validate_every
            if every and done // every > before // every and validation.pools:
                scores = validation.run(learner, micro_batch, cast, report)
                log.write(event="validation", task=done, accuracy=scores)
            if done // config.save_every > before // config.save_every and done < config.tasks:
                save()
        save()
        finished = done >= config.tasks
        log.write(event="end", task=done, finished=finished)
    if finished:
        state_file.unlink(missing_ok=True)
    if plot is not None and done > 0:
        plot_curves(log_file, plot)
    return MetaTrainResult(
        output,
        finished,
        done,
        config.tasks,
        averages.values.get("loss", math.nan),
        averages.values.get("accuracy", math.nan),
        scores,
        exact,
        skipped,
        len(train.unreadable),
        tuple(f"{path}: {reason}" for path, reason in replaced.items()),
        sum(len(classes) for _, classes in validation.left_out),
        log_file,
    )


def _standardiser(
    learner: Learner, train: TrainingTasks, where: torch.device
) -> Callable[[], None]:
    """What to call after each step, so that embeddings stay centred; see `SetEncoder`."""
    if not isinstance(learner, FilmLearner):
        return lambda: None
    images = torch.cat([train.task(number).support for number in range(_REFERENCE_TASKS)])
    spaced = torch.linspace(0, len(images) - 1, min(len(images), _REFERENCE_IMAGES)).long()
    reference = images[spaced].to(where)
    return lambda: learner.set_encoder.standardise(reference)


def _task_step(
    learner: Learner,
    task: Task,
    config: MetaTrainConfig,
    random: torch.Generator,
    scale: float,
    micro_batch: int,
    cast: Cast,
) -> LiteStep:
    """Add one task's gradient to the `.grad`s, by LITE or by a baseline."""
    if config.gradient == "small-task":
        task = small_task(task, config.h or len(task.support), random)
    if config.gradient != "lite":
        return full_step(learner, task, penalty_weight=config.penalty, scale=scale, cast=cast)
    return lite_step(
        learner,
        task,
        random,
        h=config.h,
        sampler=config.sampling,
        micro_batch=micro_batch,
        penalty_weight=config.penalty,
        scale=scale,
        cast=cast,
    )


def _gradient_norm(learner: Learner) -> float:
    gradients = [p.grad for p in learner.parameters() if p.grad is not None]
    return float(torch.nn.utils.get_total_norm(gradients))


def _schedule(task: int, config: MetaTrainConfig) -> float:
    """Share of the learning rate: linear warm-up over 5 % of the tasks, then a cosine to zero."""
    warmup = max(1, config.tasks // 20)
    if task < warmup:
        return (task + config.tasks_per_step) / (warmup + config.tasks_per_step)
    return 0.5 * (1 + math.cos(math.pi * (task - warmup) / max(1, config.tasks - warmup)))
