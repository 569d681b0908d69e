"""More photos are expected to be worth what more photos were worth."""

from __future__ import annotations

import pytest
import torch

from exported import small_personal
from fewshot_lite.personal.growth import Growth, expected_growth
from fewshot_lite.personal.personal_model import PersonalModel
from fewshot_lite.personal.quality import assess
from tiny import personal_of

SHOTS = (20, 20, 20)


def noisy(noise: float, shots: tuple[int, ...] = SHOTS) -> PersonalModel:
    """Features of classes that lie apart by 1, with noise."""
    model = small_personal(shots=shots)
    spread = torch.Generator().manual_seed(0)
    means = torch.eye(len(shots), model.features.shape[1])[model.labels]
    features = means + noise * torch.randn(model.features.shape, generator=spread)
    given = (model.labels, model.class_names, model.image_size, model.provenance)
    return personal_of(model.backbone, model.head, features, *given)


def growth(model: PersonalModel) -> Growth | None:
    return expected_growth(model, assess(model))


def test_the_curve_rises_where_photos_are_mistaken_and_is_the_same_each_time() -> None:
    model = noisy(0.4)
    found = growth(model)
    assert found is not None
    assert found.half < found.now < found.doubled < 1
    assert (1 - found.doubled) / (1 - found.now) == pytest.approx(
        max((1 - found.now) / (1 - found.half), 0.5)
    )
    assert growth(model) == found


def test_where_nothing_is_mistaken_nothing_is_gained() -> None:
    found = growth(noisy(0.01))
    assert found is not None
    assert found.doubled == found.now == 1


def test_where_nothing_can_be_told_apart_no_gain_is_promised() -> None:
    found = growth(noisy(100.0))
    assert found is not None
    assert found.doubled - found.now < 0.15


@pytest.mark.parametrize("shots", [(12, 3), (3, 3), (2, 2), (1, 12)])
def test_too_few_photos_tell_nothing(shots: tuple[int, ...]) -> None:
    assert growth(noisy(0.5, shots)) is None
