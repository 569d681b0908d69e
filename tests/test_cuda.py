"""A GPU gives what a CPU gives; `benchmarks/gpu.sh` runs these where there is one."""

from __future__ import annotations

import pytest
import torch

from fewshot_lite.learners import Learner, SimpleCnaps
from fewshot_lite.learners.task import Task
from fewshot_lite.lite.step import lite_step
from fewshot_lite.networks.weights import load_backbone
from fewshot_lite.personal.meta_model import MetaModel

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
CUDA = torch.device("cuda")


def learner() -> Learner:
    torch.manual_seed(0)
    return SimpleCnaps(load_backbone("resnet18", "none", 64)[0])


def task(number: int, queries: int = 10, way: int = 5, size: int = 64) -> Task:
    images = torch.randint(0, 256, (number + queries, 3, size, size), dtype=torch.uint8)
    labels = torch.arange(number) % way, torch.arange(queries) % way
    return Task(images[:number], labels[0], images[number:], labels[1], way)


def gradient(model: Learner, work: Task) -> torch.Tensor:
    model.zero_grad()
    lite_step(model, work, torch.Generator().manual_seed(0), h=10, micro_batch=16)
    return torch.cat([p.grad.flatten().cpu() for p in model.parameters() if p.grad is not None])


def test_a_step_has_the_gradient_of_the_cpu() -> None:
    work = task(40)
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        found = gradient(learner().to(CUDA), work.to(CUDA))
    exact = gradient(learner(), work)
    assert (found - exact).norm() < 1e-2 * exact.norm()


def test_memory_does_not_grow_with_the_support_set() -> None:
    model = learner().to(CUDA)
    peaks = []
    for number in (100, 100, 1000):  # the first one warms up
        work = task(number).to(CUDA)
        images = work.support.numel() + work.query.numel()
        torch.cuda.reset_peak_memory_stats()
        gradient(model, work)
        peaks.append(torch.cuda.max_memory_allocated() - images)
        del work
    assert peaks[2] < 1.1 * peaks[1] + 2**24


def test_a_personal_model_answers_as_on_the_cpu() -> None:
    images = task(20).support
    names = [f"class {k % 5}" for k in range(20)]
    on_cpu = MetaModel(learner().requires_grad_(False), 64).adapt(images, names)
    on_gpu = MetaModel(learner().to(CUDA).requires_grad_(False), 64).adapt(images, names)
    difference = on_gpu.probabilities(images).cpu() - on_cpu.probabilities(images)
    assert difference.abs().max() < 1e-2
