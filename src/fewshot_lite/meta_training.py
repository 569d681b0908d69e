"""Meta-training: tasks in, gradients through LITE, a checkpoint that adapts out."""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from fewshot_lite import __version__, training
from fewshot_lite.backbones import has_depthwise_convolutions, load_backbone
from fewshot_lite.baselines import full_step, small_task
from fewshot_lite.config import BY_GRADIENT, MetaTrainConfig
from fewshot_lite.data.folders import LabelledImages
from fewshot_lite.data.training_sets import has_validation_sets, scan_data_sets
from fewshot_lite.devices import autocast, pick_device, pick_micro_batch
from fewshot_lite.errors import FewshotError, UsageError
from fewshot_lite.learners import make_learner
from fewshot_lite.learners.base import Cast, Learner
from fewshot_lite.learners.film_learner import FilmLearner
from fewshot_lite.learners.gradient_learner import GradientLearner
from fewshot_lite.lite import LiteStep, lite_step
from fewshot_lite.meta_gradient import (
    check_subset,
    gradient_step,
    meta_gradient,
    unrolled_gradient,
    vectorised_step,
)
from fewshot_lite.meta_model import MetaModel
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
    """Accuracy of the last validation, by data set."""
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
        report: called with progress.

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
    where = pick_device(device)
    folders = scan_data_sets(data)
    for flag, names in (
        ("no-flip", config.no_flip),
        ("tracks", config.tracks),
        ("rotate", config.rotate),
    ):
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
    if config.unseen_only:
        folders = [unseen_classes(folder, pretrained.get("classes")) for folder in folders]
    hyperparameters = _hyperparameters(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        learner = make_learner(config.learner, backbone, hyperparameters)
    if isinstance(learner, GradientLearner) and config.gradient == "lite":
        check_subset(learner, config.h, MetaTrainConfig.h)
    held_out: Sequence[LabelledImages] = []
    if validate is not None or has_validation_sets(data):
        held_out = scan_data_sets(validate or data, "validation") if config.validate_every else []
    elif config.validate_every:
        folders, held_out = hold_out_classes(folders, config.min_way)
    train = TrainingTasks(folders, config, size, report)
    validation = ValidationTasks(held_out, config, size, report)

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
    exact = skipped = negative = 0
    # Whether learners look at all images in any case.
    sampled = not (
        isinstance(learner, GradientLearner) and (learner.coupled or learner.name != "maml")
    )
    if resume:
        done, notes = training.load_state(state_file, learner, optimizer, settings)
        averages, scores = training.Averages(**notes["averages"]), notes["scores"]
        exact, skipped = notes.get("exact", 0), notes.get("skipped", 0)
        negative = notes.get("negative_curvature", 0)
    log_file = training.log_path(output)
    log = training.JsonLines(log_file, append=resume)
    log.write(event="start", task=done, config=settings, torch=torch.__version__)
    for path, reason in train.unreadable:
        log.write(event="unreadable", path=path, reason=reason)
    for name, classes in validation.left_out:
        reason = "too few photos for validation"
        log.write(event="left out", data_set=name, classes=classes, reason=reason)
    failures = 0
    started, begun = time.perf_counter(), done

    def save() -> None:
        notes = {
            "averages": asdict(averages),
            "scores": scores,
            "exact": exact,
            "skipped": skipped,
            "negative_curvature": negative,
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

    with contextlib.closing(log), training.StopRequest() as stop:
        while done < config.tasks and not stop:
            count = min(config.tasks_per_step, config.tasks - done)
            optimizer.zero_grad(set_to_none=True)
            steps = []
            numbers = range(done, done + count)
            tasks = (train.task(number).to(where) for number in numbers)
            if isinstance(learner, GradientLearner) and config.vectorise:
                steps = vectorised_step(learner, list(tasks), scale=1 / count)
            else:
                for number, task in zip(numbers, tasks, strict=True):
                    random = training.generator(config.seed, 3, number)
                    few = config.h is not None and len(task.support) <= config.h
                    exact += config.gradient == "lite" and few and sampled
                    steps.append(
                        _task_step(learner, task, config, random, 1 / count, micro_batch, cast)
                    )
            negative += sum(step.negative_curvature for step in steps)
            before, done = done, done + count
            if all(math.isfinite(step.loss) for step in steps) and _finite_gradients(learner):
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
        sum(len(classes) for _, classes in validation.left_out),
        log_file,
    )


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


def _finite_gradients(learner: Learner) -> bool:
    gradients = [p.grad for p in learner.parameters() if p.grad is not None]
    return bool(torch.isfinite(torch.nn.utils.get_total_norm(gradients)))


def _schedule(task: int, config: MetaTrainConfig) -> float:
    """Share of the learning rate: linear warm-up over 5 % of the tasks, then a cosine to zero."""
    warmup = max(1, config.tasks // 20)
    if task < warmup:
        return (task + config.tasks_per_step) / (warmup + config.tasks_per_step)
    return 0.5 * (1 + math.cos(math.pi * (task - warmup) / max(1, config.tasks - warmup)))
