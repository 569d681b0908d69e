"""Small bases that adapt by gradient, as they might come out of meta-training."""

from __future__ import annotations

from typing import Any

import torch

from fewshot_lite.maml.gradient_learner import GradientLearner
from fewshot_lite.maml.imaml import ImplicitMaml
from fewshot_lite.maml.maml import FirstOrderMaml, Maml
from fewshot_lite.networks.backbone import Backbone
from fewshot_lite.personal.meta_model import MetaModel
from photos import SIZE

LEARNERS: dict[str, type[GradientLearner]] = {
    learner.name: learner for learner in (Maml, FirstOrderMaml, ImplicitMaml)
}


def gradient_model(
    learner: str = "fomaml", backbone: str = "conv4", *, size: int = SIZE, **options: Any
) -> MetaModel:
    """A base whose weights are random, its running statistics those of random images."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Backbone(backbone, size).train()
        for layer in network.norm_layers().values():
            layer.momentum = 1.0  # type: ignore[union-attr]
        network(torch.rand(32, 3, size, size))
        settings = {"inner_steps": 2, "inner_lr": 0.01, "statistics": "support", **options}
        made = LEARNERS[learner](network.eval(), **settings)
    return MetaModel(made.requires_grad_(False), size, {}, {"name": "tiny"})
