"""The baselines that LITE is compared with."""

from __future__ import annotations

import torch

from fewshot_lite.learners import SimpleCnaps
from fewshot_lite.lite.baselines import full_step, small_task
from fewshot_lite.lite.step import lite_step
from tiny import TinyBackbone, random_task


def test_the_full_step_equals_lite_with_every_image() -> None:
    task = random_task([3, 2, 1], queries=7)
    found = []
    for full in (True, False):
        torch.manual_seed(0)
        learner = SimpleCnaps(TinyBackbone(), embedding_dim=8, encoder_size=16).double()
        if full:
            step = full_step(learner, task, scale=0.5)
        else:
            step = lite_step(learner, task, torch.Generator(), h=None, scale=0.5)
        found.append((step, [p.grad for p in learner.parameters() if p.grad is not None]))
    (first, expected), (second, got) = found
    assert abs(first.loss - second.loss) < 1e-6
    assert first.accuracy == second.accuracy
    for a, b in zip(expected, got, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_a_small_task_keeps_h_images_and_every_class() -> None:
    task = random_task([9, 5, 1, 1], queries=4)
    small = small_task(task, 6, torch.Generator().manual_seed(0))
    assert len(small.support) == 6
    assert set(small.support_labels.tolist()) == {0, 1, 2, 3}
    for image, label in zip(small.support, small.support_labels, strict=True):
        at = [i for i in range(16) if torch.equal(image, task.support[i])]
        assert task.support_labels[at[0]] == label


def test_a_small_task_of_fewer_images_than_classes_keeps_one_of_each() -> None:
    small = small_task(random_task([2, 2, 2], queries=3), 1, torch.Generator())
    assert small.support_labels.tolist() == [0, 1, 2]
