"""Cross-adaptation: every photo is named by a model that never saw it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gradient_models import gradient_model

from fewshot_lite.personal.cross_adaptation import cross_adapt, deal
from fewshot_lite.personal.novelty import NoveltyDetector
from fewshot_lite.personal.quality import FOLDS, most_left_out
from photos import SIZE


@pytest.mark.parametrize("shots", [[1, 1], [2, 1, 2], [5, 5, 5], [1, 7, 2, 30], [4] * 20, [3]])
def test_folds(shots: list[int]) -> None:
    order = torch.randperm(sum(shots))
    labels = torch.arange(len(shots)).repeat_interleave(torch.tensor(shots))[order]
    place = deal(labels, len(shots))
    alone = torch.tensor(shots)[labels] == 1
    assert torch.equal(place == -1, alone)
    sizes = []
    for fold in range(FOLDS):
        out = torch.bincount(labels[place == fold], minlength=len(shots))
        sizes.append(int(out.sum()))
        for k, n in enumerate(shots):
            assert int(out[k]) < n
            assert n == 1 or int(out[k]) <= int(most_left_out(np.array([n]))[0])
    assert max(sizes) - min(sizes) <= 1
    assert sum(sizes) == int((~alone).sum())


@pytest.mark.slow
@pytest.mark.parametrize("statistics", ["support", "running"])
def test_each_image_is_named_by_what_was_adapted_to_the_others(statistics: str) -> None:
    learner = gradient_model(statistics=statistics).learner
    images = torch.rand(8, 3, SIZE, SIZE)
    labels = torch.tensor([0, 1, 0, 2, 1, 0, 0, 0])
    seen: list[tuple[int, int]] = []
    found = cross_adapt(learner, images, labels, 3, on_done=lambda *at: seen.append(at))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    place = deal(labels, 3)
    for i in range(8):
        if i == 3:
            assert bool(found.logits[i].isnan().all())
            assert bool(found.strangeness[i].isnan())
            continue
        kept = place != place[i]
        adapted = learner.adapt(images[kept], labels[kept], 3)
        one = images[i : i + 1]
        torch.testing.assert_close(found.logits[i], adapted.logits(one)[0], rtol=1e-4, atol=1e-4)
        detector = NoveltyDetector(adapted.support_features, labels[kept], 3)
        expected = detector.strangeness(adapted.features(one))[0]
        torch.testing.assert_close(found.strangeness[i], expected, rtol=1e-3, atol=1e-3)


def test_what_is_said_of_an_image_does_not_depend_on_its_label() -> None:
    """But for the part it has in the other folds."""
    learner = gradient_model(statistics="running").learner
    images, labels = torch.rand(4, 3, SIZE, SIZE), torch.tensor([0, 0, 1, 1])
    before = cross_adapt(learner, images, labels, 2)
    changed = images.clone()
    changed[0] = torch.rand(3, SIZE, SIZE)
    after = cross_adapt(learner, changed, labels, 2)
    own = learner.adapt(images[1:], labels[1:], 2)  # not changed: image 0 is out of its fold
    torch.testing.assert_close(after.logits[0], own.logits(changed[:1])[0], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(before.logits[1], after.logits[1])
