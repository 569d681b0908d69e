"""Fine-tuning: the published optimiser, and micro-batches that change nothing."""

from __future__ import annotations

import contextlib

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fewshot_lite.comparison.finetuning import FineTuning, fine_tune_film, fine_tune_head
from tiny import TinyBackbone, random_task


def test_the_head_is_fitted_as_a_linear_layer_by_adam() -> None:
    features, labels = torch.randn(9, 4).double(), torch.arange(9) % 3
    layer = fine_tune_head(features, labels, 3, FineTuning(steps=20, lr=0.01))
    reference = nn.Linear(4, 3).double()
    nn.init.zeros_(reference.weight)
    nn.init.zeros_(reference.bias)
    optimizer = torch.optim.Adam(reference.parameters(), lr=0.01)
    for _ in range(20):
        optimizer.zero_grad()
        F.cross_entropy(reference(features), labels).backward()
        optimizer.step()
    torch.testing.assert_close(layer.weight, reference.weight.detach())
    torch.testing.assert_close(layer.bias, reference.bias.detach())
    assert not layer.weight.requires_grad


@pytest.mark.parametrize("micro_batch", [1, 4, 100])
def test_film_is_fitted_alike_with_any_micro_batch(micro_batch: int) -> None:
    """Against the whole batch through a network whose norm layers are followed by γ and β."""
    task = random_task([3, 2, 4], queries=1, dtype=torch.float64)
    backbone = TinyBackbone().double().requires_grad_(False).eval()
    settings = FineTuning(steps=5, lr=0.01)
    parameters, layer = fine_tune_film(
        backbone,
        task.support,
        task.support_labels,
        3,
        settings,
        micro_batch=micro_batch,
        cast=contextlib.nullcontext,
    )
    weight, bias, film = _reference(backbone, task.support, task.support_labels, settings)
    torch.testing.assert_close(layer.weight, weight, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(layer.bias, bias, rtol=1e-6, atol=1e-9)
    for name, norm in backbone.norm_layers().items():
        gamma, beta = film[name]
        torch.testing.assert_close(
            parameters[f"{name}.weight"], gamma * norm.weight, rtol=1e-6, atol=1e-9
        )
        torch.testing.assert_close(
            parameters[f"{name}.bias"], gamma * norm.bias + beta, rtol=1e-6, atol=1e-9
        )
        assert not torch.equal(gamma, torch.ones_like(gamma))


def _reference(
    backbone: TinyBackbone, images: torch.Tensor, labels: torch.Tensor, settings: FineTuning
) -> tuple[torch.Tensor, torch.Tensor, dict[str, tuple[torch.Tensor, torch.Tensor]]]:
    width = backbone.feature_dim
    weight, bias = torch.zeros(3, width).double(), torch.zeros(3).double()
    weight.requires_grad_()
    bias.requires_grad_()
    film: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    handles = []
    for name, norm in backbone.norm_layers().items():
        gamma = torch.ones(width).double().requires_grad_()
        beta = torch.zeros(width).double().requires_grad_()
        film[name] = (gamma, beta)

        def modulate(
            module: nn.Module, args: object, out: torch.Tensor, name: str = name
        ) -> torch.Tensor:
            gamma, beta = film[name]
            return out * gamma[:, None, None] + beta[:, None, None]

        handles.append(norm.register_forward_hook(modulate))
    learned = [weight, bias, *(t for pair in film.values() for t in pair)]
    optimizer = torch.optim.Adam(learned, lr=settings.lr)
    for _ in range(settings.steps):
        optimizer.zero_grad()
        F.cross_entropy(F.linear(backbone(images), weight, bias), labels).backward()
        optimizer.step()
    for handle in handles:
        handle.remove()
    return weight.detach(), bias.detach(), film


def test_a_balanced_task_in_float32_does_not_show_the_micro_batch() -> None:
    """Its biases have no gradient at first, which Adam must not make steps of."""
    task = random_task([3, 3, 3], queries=1, dtype=torch.float32)
    backbone = TinyBackbone().requires_grad_(False).eval()
    found = [
        fine_tune_film(
            backbone,
            task.support,
            task.support_labels,
            3,
            FineTuning(steps=10),
            micro_batch=size,
            cast=contextlib.nullcontext,
        )[1]
        for size in (9, 2)
    ]
    torch.testing.assert_close(found[0].bias, found[1].bias, rtol=1e-3, atol=1e-7)
    torch.testing.assert_close(found[0].weight, found[1].weight, rtol=1e-3, atol=1e-6)
