"""Small real things that tests share: a tiny backbone, tasks of random images, models of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fewshot_lite.heads.base import Head
from fewshot_lite.heads.in_numpy import as_array
from fewshot_lite.learners.task import Task
from fewshot_lite.networks.architectures import MEAN, STD
from fewshot_lite.networks.backbone import Backbone
from fewshot_lite.personal.file_contents import Contents
from fewshot_lite.personal.personal_model import PersonalModel


class TinyBackbone(Backbone):
    """Two convolutions with BatchNorm: a backbone that float64 tests can enumerate over."""

    def __init__(self, width: int = 6) -> None:
        nn.Module.__init__(self)
        self.name = "tiny"
        self.network = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2),
            nn.BatchNorm2d(width),
            nn.Tanh(),
            nn.Conv2d(width, width, 3, stride=2),
            nn.BatchNorm2d(width),
            nn.Tanh(),
            nn.AdaptiveAvgPool2d(1),
        )
        self.feature_dim = width
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)
        for layer in self.norm_layers().values():
            nn.init.normal_(layer.weight, 1.0, 0.2)
            nn.init.normal_(layer.bias, 0.0, 0.2)


def random_task(
    shots: list[int], queries: int, size: int = 16, dtype: torch.dtype = torch.float64
) -> Task:
    """A task of random images; class k has shots[k] support images."""
    labels = torch.arange(len(shots)).repeat_interleave(torch.tensor(shots))
    return Task(
        support=torch.rand(len(labels), 3, size, size, dtype=dtype),
        support_labels=labels,
        query=torch.rand(queries, 3, size, size, dtype=dtype),
        query_labels=torch.arange(queries) % len(shots),
        classes=len(shots),
    )


def personal_of(
    backbone: Backbone,
    head: Head,
    features: Tensor,
    labels: Tensor,
    names: tuple[str, ...],
    size: int,
    provenance: dict[str, Any],
    photos: tuple[str, ...] = (),
) -> PersonalModel:
    """A model of photos by their features (N, d) in one view."""
    rows = as_array(features)[:, None], as_array(labels)
    return PersonalModel(backbone, head, Contents(names, size, provenance, *rows, photos))
