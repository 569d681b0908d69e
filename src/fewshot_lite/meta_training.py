"""Meta-training: tasks in, gradients through LITE, a checkpoint that adapts out."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from fewshot_lite import __version__, ranks, training
from fewshot_lite.averaging import AveragedWeights, using
from fewshot_lite.backbones import has_depthwise_convolutions, load_backbone
from fewshot_lite.baselines import full_step, small_task
from fewshot_lite.best import Best
from fewshot_lite.config import BY_GRADIENT, MetaTrainConfig, flag
from fewshot_lite.data.folders import LabelledImages
from fewshot_lite.data.training_sets import has_validation_sets, scan_data_sets
from fewshot_lite.devices import autocast, pick_device, pick_micro_batch
from fewshot_lite.errors import FewshotError, UsageError
from fewshot_lite.gradients import GradientSum
from fewshot_lite.learners import make_learner
from fewshot_lite.learners.base import Cast, Learner
from fewshot_lite.learners.film_learner import FilmLearner
from fewshot_lite.learners.gradient_learner import GradientLearner
from fewshot_lite.lite import LiteStep, lite_step
from fewshot_lite.meta_gradient import (
    gradient_step,
    meta_gradient,
    unrolled_gradient,
    vectorised_step,
)
from fewshot_lite.meta_model import MetaModel
from fewshot_lite.optimisation import gradient_norm, make_optimizer, set_learning_rate
from fewshot_lite.resuming import part, resume_on_all
from fewshot_lite.task import Task
from fewshot_lite.task_source import (
    TrainingTasks,
    ValidationTasks,
    hold_out_classes,
    unseen_classes,
)
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
    """Accuracy of the best validation, by data set; the weights in `output` are those of it."""
    exact: int = 0
    """Tasks with no more than H support images, all of which LITE back-propagated."""
    skipped: int = 0
    """Steps left out because their loss or gradient was not finite. This count and that of `exact`
    are of the whole run, however often it was resumed."""
    unreadable: int = 0
    """Photos that were left out; the log names them."""
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
        report: called with progress.
        notice: called with what a person should know, e.g. that a state was damaged.

    Raises:
        UsageError, FewshotError: bad configuration, data or output; too many losses in a row that
            are not finite; ranks that differ, or one that died.
    """
    config.check()
    with ranks.join() as group:
        where = group.together(lambda: pick_device(ranks.device_name(device)))
        if where.type == "cuda" and group.size > 1:
            torch.cuda.set_device(where)
        group.check_same(_facts(config, where), "Start all ranks alike.")
        if not group.first:
            report = notice = None

        def check_output() -> None:
            if not group.first:
                return
            if resume:
                training.check_resume(output)
            else:
                training.check_new_run(output, force=force)

        group.together(check_output)
        parts = group.together(lambda: _prepare(data, validate, config, where, report))
        group.check_same({"data": parts.fingerprint()}, "All ranks must see the same files.")
        return _train(parts, output, config, group, resume, report, notice)


@dataclass
class _Parts:
    """What a run works with: the data and the learner."""

    learner: Learner
    image_size: int
    source: dict[str, Any]
    train: TrainingTasks
    validation: ValidationTasks
    folders: Sequence[LabelledImages]
    where: torch.device
    micro_batch: int
    cast: Cast

    def fingerprint(self) -> str:
        """A hash of the files by name and class, and of which could be read."""
        digest = hashlib.sha256()
        for folder in self.folders:
            names = [str(path).replace(str(folder.root), "") for path in folder.paths]
            digest.update(repr((folder.name, folder.class_names, folder.labels, names)).encode())
        for pools in (self.train.pools, self.validation.pools):
            digest.update(repr([(pool.name, pool.class_names) for pool in pools]).encode())
        digest.update(repr([self.train.images, len(self.train.unreadable)]).encode())
        return digest.hexdigest()[:16]


def _facts(config: MetaTrainConfig, where: torch.device) -> dict[str, Any]:
    """What all ranks must have alike before they look at the data."""
    flags = {flag(name): value for name, value in asdict(config).items()}
    del flags["--save-every"], flags["--micro-batch"]
    return {"fewshot-lite": __version__, "torch": torch.__version__, "device": where.type} | flags


def _prepare(
    data: Path,
    validate: Path | None,
    config: MetaTrainConfig,
    where: torch.device,
    report: Report | None,
) -> _Parts:
    """Open the data and make the learner."""
    if validate is not None and not config.validate_every:
        raise UsageError(f"--validate {validate}: say how often with --validate-every.")
    folders = scan_data_sets(data)
    for option, names in (
        ("no-flip", config.no_flip),
        ("tracks", config.tracks),
        ("rotate", config.rotate),
    ):
        unknown = set(names) - {folder.name for folder in folders}
        if unknown:
            raise UsageError(f"--{option} {min(unknown)}: there is no such data set in {data}.")
    backbone, source = load_backbone(
        config.backbone, config.weights, config.image_size, seed=config.seed
    )
    backbone.look_at(config.scales)
    size = backbone.image_size
    training.check_image_size(backbone, size)
    if config.unseen_only:
        seen = source.get("pretrained", {}).get("classes")
        folders = [unseen_classes(folder, seen) for folder in folders]
    hyperparameters = _hyperparameters(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        learner = make_learner(config.learner, backbone, hyperparameters)
    make_optimizer(learner, config)  # refuses what it cannot take before photos are read
    held_out: Sequence[LabelledImages] = []
    if validate is not None or has_validation_sets(data):
        held_out = scan_data_sets(validate or data, "validation") if config.validate_every else []
    elif config.validate_every:
        folders, held_out = hold_out_classes(folders, config.min_way)
    depthwise = has_depthwise_convolutions(backbone)
    learner.to(where).to(memory_format=torch.channels_last)
    return _Parts(
        learner,
        size,
        source,
        train=TrainingTasks(folders, config, size, report),
        validation=ValidationTasks(held_out, config, size, report),
        folders=[*folders, *held_out],
        where=where,
        micro_batch=config.micro_batch or pick_micro_batch(where, size),
        cast=functools.partial(autocast, where, config.precision, depthwise=depthwise),
    )


def _train(
    parts: _Parts,
    output: Path,
    config: MetaTrainConfig,
    group: ranks.Ranks,
    resume: bool,
    report: Report | None,
    notice: Callable[[str], None] | None,
) -> MetaTrainResult:
    """The loop."""
    learner, train, validation = parts.learner, parts.train, parts.validation
    optimizer = make_optimizer(learner, config)
    standardise = _standardiser(learner, train, parts.where)
    settings = asdict(config) | {"images": train.images, "classes": train.classes}
    del settings["save_every"], settings["micro_batch"]  # do not change what is learned
    state_file, reason = training.state_path(output), ""
    done, averages, best = 0, training.Averages(), Best()
    exact = skipped = negative = 0
    sampled = config.learner not in ("fomaml", "imaml")  # which look at all images in any case
    standardise()
    averaged = None if config.ema is None else AveragedWeights(learner, config.ema)
    if resume:
        state, reason = resume_on_all(state_file, output, group, learner, optimizer, settings)
        if state is not None:
            done, averages = state.step, training.Averages(**state.notes["averages"])
            exact, skipped = state.notes["exact"], state.notes["skipped"]
            negative = state.notes["negative_curvature"]
            best = Best(**state.notes["best"], tensors=part(state.tensors, "best."))
            if averaged is not None:
                averaged.restore(part(state.tensors, "average."), state.notes["average_updates"])
    log_file = training.log_path(output)
    log = training.JsonLines(log_file, append=done > 0) if group.first else training.NoLines()
    log.write(event="start", task=done, config=settings, torch=torch.__version__, ranks=group.size)
    if reason:
        log.write(event="damaged state", reason=reason)
        if notice is not None:
            notice(reason)
    for path, problem in train.unreadable:
        log.write(event="unreadable", path=path, reason=problem)
    for name, classes in validation.left_out:
        problem = "too few photos for validation"
        log.write(event="left out", data_set=name, classes=classes, reason=problem)
    failures = 0
    started, begun = time.perf_counter(), done

    def weights_in_use() -> contextlib.AbstractContextManager[None]:
        """What is validated, and saved where nothing is validated: the averaged weights, if any."""
        if averaged is None:
            return contextlib.nullcontext()
        return using(learner, averaged.tensors, standardise)

    def save() -> None:
        if not group.first:
            return
        notes: dict[str, Any] = {"averages": asdict(averages), "best": best.notes()}
        notes |= {"exact": exact, "skipped": skipped, "negative_curvature": negative}
        tensors = {f"best.{name}": tensor for name, tensor in best.tensors.items()}
        if averaged is not None:
            notes["average_updates"] = averaged.updates
            tensors |= {f"average.{name}": value for name, value in averaged.tensors.items()}
        training.save_state(state_file, learner, optimizer, done, settings, notes, tensors)
        record = {
            "training": asdict(config),
            "tasks": [done, config.tasks],
            "data": {pool.name: pool.class_names for pool in train.pools},
            "backbone": {k: v for k, v in parts.source.items() if k != "pretrained"},
            "pretraining": parts.source.get("pretrained", {}),
            "figures": {**averages.values, "validation": best.scores},
            "version": __version__,
        }
        if best.scores:
            record["best_after"] = best.task
        with using(learner, best.tensors) if best.scores else weights_in_use():
            MetaModel(learner, parts.image_size, record).save(output, half=True)

    def gave_up() -> bool:
        return 0 < config.patience <= best.waited

    with contextlib.closing(log), training.StopRequest() as stop:
        gradients = GradientSum(learner)
        while done < config.tasks and not gave_up() and not group.any(bool(stop)):
            count = min(config.tasks_per_step, config.tasks - done)
            optimizer.zero_grad(set_to_none=True)
            figures = torch.zeros(count, 4, dtype=torch.float64)  # loss, accuracy, exact, negative

            def step(
                begin: int = done, count: int = count, figures: torch.Tensor = figures
            ) -> None:
                share = group.share(range(count))
                tasks = (train.task(begin + position).to(parts.where) for position in share)
                if isinstance(learner, GradientLearner) and config.vectorise:
                    outcomes = vectorised_step(learner, list(tasks), scale=1 / count)
                    for position, outcome in zip(share, outcomes, strict=True):
                        gradients.add()
                        figures[position] = _row(outcome)
                    return
                for position, task in zip(share, tasks, strict=True):
                    random = training.generator(config.seed, 3, begin + position)
                    few = config.h is not None and len(task.support) <= config.h
                    outcome = _task_step(
                        learner, task, config, random, 1 / count, parts.micro_batch, parts.cast
                    )
                    gradients.add()
                    is_exact = config.gradient == "lite" and few and sampled
                    figures[position] = _row(outcome, exact=is_exact)

            group.together(step)
            gradients.finish(group)
            group.sum(figures)
            exact += int(figures[:, 2].sum())
            negative += int(figures[:, 3].sum())
            before, done = done, done + count
            norm = gradient_norm(learner, clip=config.clip_norm)
            if bool(figures.isfinite().all()) and bool(norm.isfinite()):
                failures = 0
                set_learning_rate(optimizer, before, config)
                optimizer.step()
                standardise()
                if averaged is not None:
                    averaged.update()
                for loss, accuracy, *_ in figures.tolist():
                    averages.add(loss=loss, accuracy=accuracy)
            else:
                failures += 1
                skipped += 1
                log.write(event="skipped", task=done, reason="loss or gradient not finite")
                nothing_learned = done == config.tasks and not averages.count
                if failures == _MOST_FAILURES or nothing_learned:
                    inner = " or --inner-lr" if config.learner in BY_GRADIENT else ""
                    raise FewshotError(
                        f"The loss was not finite in {failures} steps in a row (task {done}). "
                        f"Lower --lr (now {config.lr}){inner}, use --precision float32, or take a "
                        "backbone that was trained longer."
                    )
            speed = (done - begun) / (time.perf_counter() - started)
            counts = {"negative_curvature": negative} if negative else {}
            rate = round(speed, 3)
            log.write(event="step", task=done, **averages.values, tasks_per_second=rate, **counts)
            if report is not None:
                values = {**averages.values, "tasks/s": speed}
                report(Progress(done, config.tasks, "Meta-training", values))
            every = config.validate_every
            due = every and (done // every > before // every or done == config.tasks)
            if due and validation.pools:
                with weights_in_use():
                    scores = validation.run(learner, parts.micro_batch, parts.cast, report, group)
                    is_best = best.offer(done, scores, learner.state_dict())
                log.write(event="validation", task=done, accuracy=scores, best=is_best)
            if done // config.save_every > before // config.save_every and done < config.tasks:
                save()
        save()
        finished = done >= config.tasks or gave_up()
        terminated = group.any(stop.terminated) and not finished
        log.write(event="end", task=done, finished=finished)
    if finished and group.first:
        training.clear(state_file)
    return MetaTrainResult(
        output,
        finished,
        done,
        config.tasks,
        averages.values.get("loss", math.nan),
        averages.values.get("accuracy", math.nan),
        best.scores,
        exact,
        skipped,
        len(train.unreadable),
        sum(len(classes) for _, classes in validation.left_out),
        log_file,
        best.task or None,
        terminated,
    )


def _row(outcome: LiteStep, *, exact: bool = False) -> torch.Tensor:
    values = [outcome.loss, outcome.accuracy, exact, outcome.negative_curvature]
    return torch.tensor(values, dtype=torch.float64)


def _hyperparameters(config: MetaTrainConfig) -> dict[str, Any]:
    """What the learner is built with, as far as it was given."""
    names = ["backbone_lr", "metric", "inner_steps", "inner_lr", "inner_head", "pattern"]
    names += ["lam", "cg_steps", "inner_solver", "statistics"]
    found = {name: getattr(config, name) for name in names if getattr(config, name) is not None}
    if config.inner_head == "learned":
        found["way"] = config.max_way
    if config.learner in BY_GRADIENT and config.weights == "none":
        found.setdefault("statistics", "support")  # random weights have no statistics
    return found


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
    if isinstance(learner, GradientLearner):
        if config.gradient == "full":
            return gradient_step(learner, unrolled_gradient(learner, task), scale=scale)
        h = config.h if config.gradient == "lite" else None
        found = meta_gradient(learner, task, random, h=h, micro_batch=micro_batch)
        return gradient_step(learner, found, scale=scale)
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
