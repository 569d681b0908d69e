"""Learners and tasks of random pixels, for benchmarks of cost, where content is moot."""

from __future__ import annotations

import torch

from fewshot_lite.learners import Learner, make_learner
from fewshot_lite.learners.task import Task
from fewshot_lite.networks.weights import load_backbone


def random_learner(name: str, backbone: str, size: int) -> Learner:
    """A learner on a backbone of random weights."""
    torch.manual_seed(0)
    return make_learner(name, load_backbone(backbone, "none", size)[0], {})


def random_task(number: int, queries: int, way: int, size: int) -> Task:
    """N support and Q query images of random bytes, classes in turn."""
    random = torch.Generator().manual_seed(0)

    def images(count: int) -> torch.Tensor:
        shape = (count, 3, size, size)
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=random)

    return Task(
        support=images(number),
        support_labels=torch.arange(number) % way,
        query=images(queries),
        query_labels=torch.arange(queries) % way,
        classes=way,
    )
