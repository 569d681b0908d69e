"""Fine-tuning: the published optimiser, and micro-batches that change nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fewshot_lite.core.errors import UsageError
from fewshot_lite.evaluation.finetuning import (
    FineTuning,
    fine_tune_film,
    fine_tune_head,
    fine_tune_weights,
    updated_by,
)
from fewshot_lite.networks.backbone import Backbone
from fewshot_lite.networks.micro_batches import Passes
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
        passes=Passes(micro_batch),
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
            passes=Passes(size),
        )[1]
        for size in (9, 2)
    ]
    torch.testing.assert_close(found[0].bias, found[1].bias, rtol=1e-3, atol=1e-7)
    torch.testing.assert_close(found[0].weight, found[1].weight, rtol=1e-3, atol=1e-6)


def conv4() -> Backbone:
    return Backbone("conv4", 32).double().requires_grad_(False).eval()


@pytest.mark.parametrize("pattern", [None, "11111", "00111", "01001", "00001"])
@pytest.mark.parametrize("micro_batch", [2, 100])
def test_weights_are_fitted_as_by_adam_on_the_whole_network(
    pattern: str | None, micro_batch: int
) -> None:
    task = random_task([2, 3], queries=4, size=32)
    backbone, settings = conv4(), FineTuning(3, 0.01, pattern)
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    parameters, layer = fine_tune_weights(
        backbone,
        task.support,
        task.support_labels,
        2,
        settings,
        passes=Passes(micro_batch),
    )
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, before[name]), f"{name} of the backbone itself was changed"
    row = [digit == "1" for digit in pattern or "11111"]
    blocks = [f"network.features.{k}." for k in range(4) if row[k]]
    reference = conv4()
    wanted = {k: v for k, v in reference.named_parameters() if k.startswith(tuple(blocks))}
    for value in wanted.values():
        value.requires_grad_(True)
    head = nn.Linear(backbone.feature_dim, 2).double()
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    optimizer = torch.optim.Adam([*head.parameters(), *wanted.values()], lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(head(reference(task.support)), task.support_labels).backward()
        optimizer.step()
    assert set(parameters) == set(wanted)
    for name, value in wanted.items():
        torch.testing.assert_close(parameters[name], value.detach(), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(layer.weight, head.weight.detach(), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("fine_tune", [fine_tune_weights, fine_tune_film])
def test_lower_stages_run_once(fine_tune: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same as if the layers below were run at each step, which is how it is without stages."""
    task = random_task([2, 2], queries=1, size=32)
    backbone = Backbone("mobilenet_v3_small", 32).double().requires_grad_(False).eval()
    settings = FineTuning(3, 0.01, "00000000000111")
    arguments = (task.support, task.support_labels, 2, settings)
    options = {"passes": Passes(3)}
    runs = []
    backbone.network.features[0].register_forward_hook(lambda *a: runs.append(len(a[1][0])))
    found, layer = fine_tune(backbone, *arguments, **options)  # type: ignore[operator]
    assert sum(runs) == len(task.support)
    assert not [name for name in found if name.startswith("network.features.10.")]
    assert [name for name in found if name.startswith("network.features.11.")]
    monkeypatch.setattr(
        "fewshot_lite.evaluation.finetuning.updated_by",
        lambda *a: replace(updated_by(*a), lowest=0),
    )
    whole, other = fine_tune(backbone, *arguments, **options)  # type: ignore[operator]
    for name in whole:
        torch.testing.assert_close(found[name], whole[name], rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(layer.weight, other.weight, rtol=1e-6, atol=1e-9)


def test_film_under_a_pattern_adapts_those_norm_layers_alone() -> None:
    task = random_task([2, 2], queries=1, size=32)
    found, _ = fine_tune_film(
        conv4(),
        task.support,
        task.support_labels,
        2,
        FineTuning(2, 0.01, "01001"),
        passes=Passes(9),
    )
    assert set(found) == {"network.features.1.1.weight", "network.features.1.1.bias"}


def test_the_head_alone_is_the_head_on_features() -> None:
    task = random_task([3, 2], queries=1, size=32)
    backbone = conv4()
    found, layer = fine_tune_weights(
        backbone,
        task.support,
        task.support_labels,
        2,
        FineTuning(5, 0.01, "00001"),
        passes=Passes(2),
    )
    assert not found
    head = fine_tune_head(backbone(task.support), task.support_labels, 2, FineTuning(5, 0.01))
    torch.testing.assert_close(layer.weight, head.weight)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("0011", "must have 5 digits 0 or 1, for block1, block2, block3, block4, head"),
        ("11110", "must end in 1"),
        ("00011,00001", "must be one row for fine-tuning"),
    ],
)
def test_patterns_that_do_not_fit_are_refused(pattern: str, message: str) -> None:
    with pytest.raises(UsageError, match=f"--pattern {pattern}: {message}"):
        updated_by(pattern, conv4())
