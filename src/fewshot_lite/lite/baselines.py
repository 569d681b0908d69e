"""Baselines of LITE: plain back-propagation, and small tasks (Bronskill et al. 2021, section 5.3).

Plain back-propagation needs memory for the whole task at once; a small task, the support set
sub-sampled to H images, has a gradient of low variance, but of a different task.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace

import torch
import torch.nn.functional as F

from fewshot_lite.learners.base import Learner, task_embedding
from fewshot_lite.learners.task import Task
from fewshot_lite.lite.step import LiteStep, task_of_maps
from fewshot_lite.networks.micro_batches import Cast, Passes


def full_step(
    learner: Learner,
    task: Task,
    *,
    penalty_weight: float = 0.001,
    scale: float = 1.0,
    cast: Cast = contextlib.nullcontext,
) -> LiteStep:
    """Add a task's exact gradient to the `.grad`s, in one pass with one graph of all images.

    Arguments as for `lite.step.lite_step`.

    Raises:
        ValueError: a part of the learner is in training mode, or `task.check` rejects the task.
    """
    learner.check_evaluation_mode()
    task.check()
    passes = Passes(len(task.support), cast)
    task = task_of_maps(learner, task, passes)
    z = task_embedding(learner, task.support, passes) if learner.has_set_encoder else None
    theta = learner.norm_parameters(z)
    with passes.cast():
        support = learner.features(task.support, theta)
        query = learner.features(task.query, theta)
    statistics = learner.head.fit(support, task.support_labels, task.classes)
    logits = learner.head.logits(statistics, query)
    loss = F.cross_entropy(logits, task.query_labels)
    (scale * (loss + penalty_weight * learner.penalty())).backward()
    correct = (logits.argmax(1) == task.query_labels).double().mean()
    return LiteStep(float(loss.detach()), float(correct))


def small_task(task: Task, h: int, generator: torch.Generator) -> Task:
    """Sub-sample a task's support set to H images, at least one of each class.

    Raises:
        ValueError: `task.check` rejects the task.
    """
    task.check()
    order = torch.randperm(len(task.support), generator=generator).to(task.support_labels.device)
    labels = task.support_labels[order]
    first = torch.stack([(labels == k).nonzero()[0, 0] for k in range(task.classes)])
    others = torch.ones(len(order), dtype=torch.bool, device=order.device)
    others[first] = False
    rest = others.nonzero().flatten()[: max(0, h - task.classes)]
    kept = order[torch.cat([first, rest])].sort().values
    return replace(task, support=task.support[kept], support_labels=task.support_labels[kept])
