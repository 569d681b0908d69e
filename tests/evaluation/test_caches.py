"""What no task changes is computed once, and gives the same answers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fewshot_lite.evaluation.caches import LowerMapsCache
from fewshot_lite.learners import SimpleCnaps
from fewshot_lite.networks.backbone import Backbone


def counting_learner(
    monkeypatch: pytest.MonkeyPatch, **options: int
) -> tuple[SimpleCnaps, list[int]]:
    """A learner, and how many images `lower_maps` was given each time."""
    learner = SimpleCnaps(Backbone("resnet18", 32, seed=1), **options).requires_grad_(False)
    calls: list[int] = []
    plain = SimpleCnaps.lower_maps

    def lower_maps(self: SimpleCnaps, images: Tensor) -> Tensor:
        calls.append(len(images))
        return plain(self, images)

    monkeypatch.setattr(SimpleCnaps, "lower_maps", lower_maps)
    return learner, calls


@torch.no_grad()
def test_lower_stages_run_once_for_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    learner, calls = counting_learner(monkeypatch, film_stages=2)
    images, cache = torch.rand(6, 3, 32, 32), LowerMapsCache()
    expected = learner.lower_maps(images)
    calls.clear()
    with cache.used_by(learner):
        first, again = learner.lower_maps(images[:4]), learner.lower_maps(images)
        mirrored = learner.lower_maps(images.flip(3))
    assert calls == [4, 2, 6]
    torch.testing.assert_close(first, expected[:4], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(again, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(mirrored, expected)
    learner.lower_maps(images)
    assert calls[-1] == 6  # without the cache all run again


@torch.no_grad()
def test_without_lower_stages_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    learner, calls = counting_learner(monkeypatch)
    images, cache = torch.rand(2, 3, 32, 32), LowerMapsCache()
    with cache.used_by(learner):
        assert torch.equal(learner.lower_maps(images), learner.lower_maps(images))
    assert calls == [2, 2]
    assert len(cache._cache) == 0
