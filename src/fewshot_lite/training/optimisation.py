"""Optimisers, learning-rate schedules and gradient clipping."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer

from fewshot_lite.core.errors import UsageError
from fewshot_lite.learners.base import Learner
from fewshot_lite.training.meta_config import MetaTrainConfig


def make_optimizer(learner: Learner, config: MetaTrainConfig) -> Optimizer:
    """Return Adam or AdamW (Loshchilov & Hutter 2019) over a learner's parameter groups.

    Each group stores its peak learning rate as "peak", and its name.

    Raises:
        UsageError: `lr_factor` names a group that the learner does not have.
    """
    groups = learner.parameter_groups(config.lr)
    names = [str(group.get("name", "other")) for group in groups]
    for name in config.lr_factor:
        if name not in names:
            raise UsageError(
                f"--lr-factor {name}={config.lr_factor[name]}: {config.learner} learns no group "
                f"of parameters of this name here, but {', '.join(names)}."
            )
    for name, group in zip(names, groups, strict=True):
        group["lr"] *= config.lr_factor.get(name, 1.0)
    if config.optimizer == "adam":
        optimizer: Optimizer = Adam(groups, lr=config.lr)
    else:
        decay = 0.01 if config.weight_decay is None else config.weight_decay
        parts = [part for group in groups for part in split_decay(group, decay)]
        optimizer = AdamW(parts, lr=config.lr)
    for group in optimizer.param_groups:
        group["peak"] = group["lr"]
    return optimizer


def split_decay(group: dict[str, Any], weight_decay: float) -> list[dict[str, Any]]:
    """Split a group in two: norms, biases and the head's scalars get no weight decay."""
    parameters = list(group["params"])
    return [
        group | {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        group | {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def set_learning_rate(optimizer: Optimizer, share: float) -> None:
    """Set the learning rate of each group to a share of its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * share


def schedule(task: int, config: MetaTrainConfig) -> float:
    """Return the share of the peak learning rate for the step that begins with this task.

    Linear warm-up, (task + tasks_per_step) / (warmup + tasks_per_step), then constant or a cosine
    to zero.
    """
    warmup = 0
    if config.warmup > 0:
        tasks = config.warmup if config.warmup >= 1 else config.warmup * config.tasks
        warmup = max(1, int(tasks + 1e-9))  # in floats, 0.29 * 100 is slightly less than 29
    if task < warmup:
        return (task + config.tasks_per_step) / (warmup + config.tasks_per_step)
    return 1.0 if config.schedule == "constant" else cosine(task - warmup, config.tasks - warmup)


def warmed_up_cosine(step: int, warmup: int, total: int) -> float:
    """Return the share of the peak rate: linear over `warmup` steps, then a cosine to zero."""
    return (step + 1) / warmup if step < warmup else cosine(step - warmup, total - warmup)


def cosine(done: int, total: int) -> float:
    """Return a value from 1 to 0 along half a cosine (Loshchilov & Hutter 2017)."""
    return 0.5 * (1 + math.cos(math.pi * done / max(1, total)))


def gradient_norm(module: nn.Module, *, clip: float | None) -> Tensor:
    """Return the norm of all gradients, (), and scale them down to norm `clip` if it is larger.

    Gradients whose norm is not finite are left unchanged.
    """
    parameters = [p for p in module.parameters() if p.grad is not None]
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if clip is not None and bool(torch.isfinite(norm)):
        nn.utils.clip_grads_with_norm_(parameters, clip, norm)
    return norm
