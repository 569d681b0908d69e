"""A training step as the published LITE code takes one, to measure ours against.

Written anew after the authors' repository (cambridge-mlg/LITE, commit 46ceaf2: `train_lite` of
`src/run.py`, `model.py`, `features.py`, `set_encoder.py`, `mahalanonbis.py`), with all that decides
what it costs:

- queries come in batches of 40 (`--batch_size`), each with a backward pass of its own;
- for each batch H = 40 support images (`--h`), drawn anew, are forwarded with a graph, all at once
  and with the batch's; the others' features and embeddings are those of the first batch, without;
- the set encoder has five convolutions of 64 channels on the whole image, with batch statistics;
- FiLM is an operation of its own after a norm layer;
- the head inverts a d × d matrix for each class, through which is back-propagated;
- images are float32, and in the order (B, C, H, W) in memory.

Not taken over: the accuracy that it keeps, and the reading of data.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from contextlib import ExitStack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewshot_lite.learners import SimpleCnaps
from fewshot_lite.learners.task import Task
from fewshot_lite.networks.backbone import Backbone

BATCH = 40
_PENALTY_WEIGHT = 0.001
_TASKS_PER_STEP = 16


class PublishedLite(nn.Module):
    """The published model; the frozen backbone and FiLM's generator are those of one of ours."""

    def __init__(self, learner: SimpleCnaps) -> None:
        super().__init__()
        self.backbone: Backbone = learner.backbone
        self.film = learner.film
        self.encoder = published_encoder()

    def step(self, task: Task, h: int, generator: torch.Generator) -> None:
        """Add to `.grad`s what the published code adds for a task of float images."""
        featured = None
        with torch.no_grad():
            embedded = torch.vstack([self.encoder(x) for x in task.support.split(BATCH)])
        batches = (task.query.split(BATCH), task.query_labels.split(BATCH))
        for images, labels in zip(*batches, strict=True):
            order = torch.randperm(len(task.support), generator=generator)
            order = order.to(task.support.device)
            chosen, others = order[:h], order[h:]
            rows = [self.encoder(task.support[chosen]), *embedded[others]]
            z = torch.vstack(rows).mean(0)
            if featured is None:
                with torch.no_grad():
                    parts = [self.features(x, z) for x in task.support.split(BATCH)]
                    featured = torch.vstack(parts)
            rows = [self.features(task.support[chosen], z), *featured[others]]
            means, precisions = class_precisions(torch.vstack(rows), task.support_labels[order])
            logits = distances(self.features(images, z), means, precisions)
            loss = F.cross_entropy(logits, labels) / _TASKS_PER_STEP
            (loss + _PENALTY_WEIGHT * self.film.penalty()).backward()

    def features(self, images: Tensor, z: Tensor) -> Tensor:
        """Features (B, d) of float images (B, 3, S, S), with FiLM after norm layers."""
        layers = self.backbone.norm_layers()
        with ExitStack() as stack:
            for key, generate in self.film.layers.items():
                shift = functools.partial(_film, *generate(z))
                hook = layers[key.replace("/", ".")].register_forward_hook(shift)
                stack.callback(hook.remove)
            features: Tensor = self.backbone.network(images).flatten(1)
        return features


def published_encoder() -> nn.Sequential:
    """The published set encoder before its mean: images (B, 3, S, S) to (B, 64)."""
    layers: list[nn.Module] = []
    for inputs in (3, 64, 64, 64, 64):
        layers += [nn.Conv2d(inputs, 64, 3, padding=1), nn.BatchNorm2d(64)]
        layers += [nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def class_precisions(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Class means (K, d) and inverted covariances (K, d, d) of support features (N, d)."""
    whole = torch.cov(features.T)
    means, precisions = [], []
    for k in labels.unique():
        own = features[labels == k]
        weight = len(own) / (len(own) + 1)
        means.append(own.mean(0))
        covariance = weight * torch.cov(own.T) + (1 - weight) * whole
        eye = torch.eye(own.shape[1], device=own.device)
        precisions.append(torch.inverse(covariance + eye))
    return torch.stack(means), torch.stack(precisions)


def distances(features: Tensor, means: Tensor, precisions: Tensor) -> Tensor:
    """Logits (B, K): minus the squared Mahalanobis distances of features (B, d)."""
    differences = (means[:, None] - features).contiguous()  # (K, B, d)
    return -(differences @ precisions * differences).sum(2).T


def _film(gamma: Tensor, beta: Tensor, _: nn.Module, __: Iterable[Tensor], out: Tensor) -> Tensor:
    return gamma[:, None, None] * out + beta[:, None, None]
