"""Scores of heads on features that no adaptation changes, and what is made of scores."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fewshot_lite.core.devices import autocast
from fewshot_lite.data.episodes import Episode
from fewshot_lite.data.store import ImageStore
from fewshot_lite.evaluation.accuracy import Score
from fewshot_lite.heads.registry import AnyHead
from fewshot_lite.learners.base import Cast, map_batches
from fewshot_lite.networks.backbone import Backbone, has_depthwise_convolutions


def cast_for(backbone: Backbone, device: torch.device) -> Cast:
    """bfloat16 where that is faster."""
    depthwise = has_depthwise_convolutions(backbone)
    return functools.partial(autocast, device, "auto", depthwise=depthwise)


def bare_features(backbone: Backbone, store: ImageStore, device: torch.device) -> Tensor:
    """(images of the data set, d), of the backbone as it is."""
    parts = (store[part.tolist()] for part in torch.arange(len(store)).split(256))
    cast = cast_for(backbone, device)
    return torch.cat([map_batches(backbone, x.to(device), 64, cast) for x in parts]).float()


def score_heads(
    heads: Mapping[str, AnyHead], features: Tensor, episodes: Sequence[Episode]
) -> dict[str, Score]:
    """Accuracy of heads on features of all images of a data set."""
    accuracies: dict[str, list[float]] = {name: [] for name in heads}
    for episode in episodes:
        support, query = features[episode.support], features[episode.query]
        labels = torch.tensor(episode.support_labels, device=features.device)
        truth = torch.tensor(episode.query_labels, device=features.device)
        for name, head in heads.items():
            statistics = head.fit(support, labels, episode.classes)
            correct = head.logits(statistics, query).argmax(1) == truth
            accuracies[name].append(float(correct.double().mean()))
    return {name: Score(tuple(values)) for name, values in accuracies.items()}


def minus(a: Score, b: Score) -> Score:
    """Task by task."""
    return Score(tuple(x - y for x, y in zip(a.accuracies, b.accuracies, strict=True)))


def percent(score: Score, name: str = "accuracy", interval: str = "interval") -> dict[str, float]:
    """Mean and 95 % interval."""
    return {name: round(100 * score.mean, 2), interval: round(100 * score.interval, 2)}


def over_sets(scores: Sequence[Score]) -> dict[str, float]:
    """Mean over sets, all weighing the same, and its interval, in %."""
    mean = sum(s.mean for s in scores) / len(scores)
    interval = math.sqrt(sum(s.interval**2 for s in scores)) / len(scores)
    return {"accuracy": round(100 * mean, 2), "interval": round(100 * interval, 2)}
