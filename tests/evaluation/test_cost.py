"""Costs: multiply-accumulates as the papers count them, time and memory that are really used."""

from __future__ import annotations

import time

import pytest
import torch
from gradient_models import gradient_model
from torch import Tensor, nn

from fewshot_lite.evaluation.cost import MacMeter, measure, peak_memory
from fewshot_lite.evaluation.finetuning import FineTuning
from fewshot_lite.evaluation.methods import (
    Classifier,
    FineTunedFilm,
    LearnerMethod,
    Method,
)
from fewshot_lite.networks.backbone import Backbone
from fewshot_lite.networks.micro_batches import Passes
from photos import SIZE
from tiny import TinyBackbone, random_task

#: Of TinyBackbone's layers on an image of 16 px: 3 → 6 channels on 7 × 7, 6 → 6 on 3 × 3.
_FIRST, _SECOND = 7 * 7 * 6 * 3 * 9, 3 * 3 * 6 * 6 * 9
_TINY = _FIRST + _SECOND


@pytest.mark.slow
def test_linear_layers_and_convolutions_are_counted() -> None:
    with torch.no_grad(), MacMeter() as meter:
        nn.Linear(7, 5)(torch.rand(3, 7))
    assert meter.macs == 3 * 7 * 5
    with torch.no_grad(), MacMeter() as meter:
        TinyBackbone()(torch.rand(4, 3, 16, 16))
    assert meter.macs == 4 * _TINY


def test_a_backward_pass_counts_the_products_that_it_takes() -> None:
    """One for each gradient: of the weights, and of all inputs but the images."""
    backbone = TinyBackbone()
    with MacMeter() as meter:
        backbone(torch.rand(4, 3, 16, 16)).sum().backward()
    assert meter.macs == 4 * (2 * _FIRST + 3 * _SECOND)


def test_a_meter_that_is_used_again_adds_up() -> None:
    meter = MacMeter()
    for _ in range(3):
        with torch.no_grad(), meter:
            nn.Linear(7, 5)(torch.rand(3, 7))
    assert meter.macs == 3 * 3 * 7 * 5


def test_attention_is_counted() -> None:
    attention = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    x = torch.rand(1, 5, 8)
    with torch.no_grad(), MacMeter() as meter:
        attention(x, x, x, need_weights=False)
    projections, products = 4 * 5 * 8 * 8, 2 * 5 * 5 * 8
    assert meter.macs == projections + products
    assert torch.backends.mha.get_fastpath_enabled()


def test_attention_is_counted_backwards_too() -> None:
    """Twice the projections and products; the weights of the fused attention once more."""
    x = torch.rand(1, 2, 5, 4, requires_grad=True)
    with MacMeter() as meter:
        nn.functional.scaled_dot_product_attention(x, x, x).sum().backward()
    product = 2 * 5 * 5 * 4
    assert meter.macs == (2 + 5) * product


def test_published_macs_of_a_network() -> None:
    """ResNet-18: 1.81 GMACs at 224 px with its last layer (torchvision's table), 0.5 M of it."""
    with torch.no_grad(), MacMeter() as meter:
        Backbone("resnet18").eval()(torch.rand(1, 3, 224, 224))
    assert meter.macs == pytest.approx(1.814e9, rel=1e-3)


def test_fine_tuning_counts_its_steps_forward_and_backward() -> None:
    task = random_task([2, 2], queries=3, dtype=torch.float32)
    backbone = TinyBackbone().requires_grad_(False)
    method = FineTunedFilm("", FineTuning(steps=3), backbone, 16, Passes(micro_batch=3))
    chunks = task.query.split(2)
    _, cost = measure(method, task.support, task.support_labels, 2, chunks, metered=True)
    layer = 2 * backbone.feature_dim
    # The backbone's weights are frozen: what is differentiated is what lies above the first FiLM.
    assert cost.adapt_macs == 3 * 4 * (_FIRST + 2 * _SECOND + 3 * layer)
    assert cost.query_macs == _TINY + layer


class Slow(Method):
    """Takes 30 ms to adapt and 10 ms a query."""

    def adapt(self, images: Tensor, labels: Tensor, classes: int) -> Classifier:
        time.sleep(0.03)

        def classify(queries: Tensor) -> Tensor:
            time.sleep(0.01 * len(queries))
            return torch.zeros(len(queries), classes)

        return classify


def test_times_are_those_of_the_whole_adaptation_and_of_one_query() -> None:
    images = torch.zeros(6, 3, 16, 16, dtype=torch.uint8)
    method = Slow("", TinyBackbone(), 16, Passes())
    logits, cost = measure(
        method, images, torch.arange(6) % 2, 2, iter(images.split(4)), compared=True
    )
    assert logits.shape == (6, 2)
    assert 30 <= cost.adapt_ms < 300
    assert 10 <= cost.query_ms < 100
    assert cost.bare_ms is not None
    assert 0 < cost.bare_ms < 10
    assert cost.adapt_macs is None


def test_peak_memory_is_that_of_the_block() -> None:
    with peak_memory(torch.device("cpu")) as peak:
        before = peak()
        # More than the peak of earlier tests, where the system does not let a process reset it.
        held = torch.ones(max(64 * 2**20, before), dtype=torch.uint8)
        after = peak()
        del held
    assert after - before > 50 * 2**20
    assert before > 2**20


@pytest.mark.parametrize(
    ("options", "passes", "head"),
    [
        # Features to begin with; two steps forward and backward, with the gradients of weights and
        # of inputs but for those of the images; features in the end.
        ({"learner": "fomaml", "statistics": "running"}, 1 + 2 * 3 + 1, 1 + 2 * 3),
        ({"learner": "maml", "statistics": "support"}, 1 + 2 * 3 + 1, 1 + 2 * 3),
        # Two steps on the head alone.
        ({"learner": "imaml", "statistics": "running", "pattern": "00001"}, 1, 1 + 2 * 2),
    ],
)
def test_gradient_steps_of_torch_func_are_counted(
    options: dict[str, str], passes: int, head: int
) -> None:
    learner = gradient_model(**options).learner
    support = torch.randint(0, 256, (4, 3, SIZE, SIZE), dtype=torch.uint8)
    with torch.no_grad(), MacMeter() as meter:
        learner.backbone(support)
    alone, layer = meter.macs, 4 * 2 * learner.backbone.feature_dim
    of_images = 0 if passes == 1 else 2 * 4 * SIZE**2 * 64 * 3 * 9
    method = LearnerMethod("", learner, SIZE, Passes())
    labels = torch.tensor([0, 1, 0, 1])
    _, cost = measure(method, support, labels, 2, [support], metered=True)
    # The head starts from class means.
    assert cost.adapt_macs == passes * alone - of_images + head * layer
    assert cost.query_macs == (alone + layer) / 4
