"""MAML's inner step and meta-gradient against torchmeta's computation by hand.

`test_update_parameters` and `test_update_parameters_first_order` of its gradient-based learners'
tests: f(w) = ½ (x·w)² with w = (2, 3, 5), one inner step of size ½.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from torch import Tensor

import fewshot_lite.learners  # noqa: F401 (before the room below it, while it imports upwards)
from fewshot_lite.maml.descent import gradient_descent
from fewshot_lite.maml.maml import FirstOrderMaml, Maml
from fewshot_lite.maml.objective import Objective
from fewshot_lite.maml.params import Params

_RATE = 0.5


class HalfSquare(Objective):
    """½ (x·w)², in place of the cross-entropy."""

    def _sum(
        self, params: Mapping[str, Tensor], x: Tensor, y: Tensor, weights: Tensor | None
    ) -> Tensor:
        return (x @ params["w"]).square().sum() / 2


def objective(*x: float) -> HalfSquare:
    return HalfSquare(lambda params, x: x, torch.tensor([x]), torch.tensor([0]), None)


@pytest.mark.parametrize(
    ("kind", "train", "test", "adapted", "loss", "gradient"),
    [
        (Maml, (1, 2, 3), (4, 5, 6), [-9.5, -20, -29.5], 49612.5, [3780, 8505, 13230]),
        (
            FirstOrderMaml,
            (4, 5, 6),
            (1, 2, 3),
            [-104, -129.5, -154],
            340312.5,
            [-825, -1650, -2475],
        ),
    ],
)
def test_one_step_on_a_quadratic(
    kind: type[FirstOrderMaml],
    train: tuple[float, ...],
    test: tuple[float, ...],
    adapted: list[float],
    loss: float,
    gradient: list[float],
) -> None:
    inner, outer = objective(*map(float, train)), objective(*map(float, test))
    path: list[Params] = []
    start = {"w": torch.tensor([2.0, 3.0, 5.0])}
    end = gradient_descent(inner, start, [("w",)], _RATE, path=path)
    assert end["w"].tolist() == adapted
    at_end, value = outer.gradient(end, ("w",))
    assert float(value) == loss
    learner = cast(Maml, SimpleNamespace(updated_names=lambda: [("w",)], inner_lr=_RATE))
    pulled, _ = kind.pull_back(learner, inner, path, end, at_end, lambda: None)
    assert pulled["w"].tolist() == gradient
