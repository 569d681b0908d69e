"""MAML's and iMAML's parts against numbers of other libraries, or of their tests.

torchmeta, `test_update_parameters` and `test_update_parameters_first_order` of its gradient-based
learners' tests: f(w) = ½ (x·w)² with w = (2, 3, 5), one inner step of size ½. iMAML's published
`cg_solve` and jaxopt's `custom_root` (0.8) were run on what stands here.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

import fewshot_lite.learners  # noqa: F401 (before the room below it, while it imports upwards)
from fewshot_lite.maml.conjugate import conjugate_gradient
from fewshot_lite.maml.descent import gradient_descent, hessian_free
from fewshot_lite.maml.gradient_learner import Solved
from fewshot_lite.maml.implicit import implicit_gradient
from fewshot_lite.maml.maml import FirstOrderMaml, Maml
from fewshot_lite.maml.objective import Objective
from fewshot_lite.maml.params import Params
from tiny import TinyBackbone

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
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inner, outer = objective(*map(float, train)), objective(*map(float, test))
    path: list[Params] = []
    start = {"w": torch.tensor([2.0, 3.0, 5.0])}
    end = gradient_descent(inner, start, [("w",)], _RATE, path=path)
    assert end["w"].tolist() == adapted
    at_end, value = outer.gradient(end, ("w",))
    assert float(value) == loss
    learner = kind(TinyBackbone(), inner_lr=_RATE)
    monkeypatch.setattr(learner, "updated_names", lambda: [("w",)])
    pulled, _ = learner.pull_back(Solved(inner, path, end, at_end, lambda: None))
    assert pulled["w"].tolist() == gradient


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (1, [0.5384615384615384, 1.0769230769230769, 1.6153846153846154]),
        (2, [-0.03960396039603975, 1.2871287128712872, 2.2722772277227725]),
        (3, [-0.11111111111111115, 1.4444444444444446, 2.2222222222222223]),
        (10, [-0.11111111111111115, 1.4444444444444446, 2.2222222222222223]),
    ],
)
def test_conjugate_gradients_take_the_steps_of_cg_solve(steps: int, expected: list[float]) -> None:
    matrix = torch.tensor([[4, 1, 0], [1, 3, -1], [0, -1, 2]], dtype=torch.float64)
    b = torch.tensor([1, 2, 3], dtype=torch.float64)
    found = conjugate_gradient(lambda p: {"x": matrix @ p["x"]}, {"x": b}, steps)
    assert found.x["x"].tolist() == pytest.approx(expected, rel=1e-12)
    assert not bool(found.negative_curvature)


class Ridge(Objective):
    """½ mean (Xw - y)², in place of the cross-entropy."""

    def _sum(
        self, params: Mapping[str, Tensor], x: Tensor, y: Tensor, weights: Tensor | None
    ) -> Tensor:
        return (x @ params["w"] - y).square().sum() / (2 * len(self.labels))


@pytest.mark.parametrize(
    ("lam", "solution", "slope"),
    [
        (
            5.0,
            [-0.017989045776594145, -0.04406813727953369, 0.5239435204261093],
            [0.013296206655586736, 0.00017559660382204714, -0.06714179613992534],
        ),
        (
            0.7,
            [-0.4249980876615925, 0.11734108467834466, 1.2690277671536754],
            [0.4684245793714177, -0.2460550080917381, -0.5094825274000366],
        ),
    ],
)
def test_the_implicit_gradient_of_ridge_is_jaxopts(
    lam: float, solution: list[float], slope: list[float]
) -> None:
    """dw*/dλ = -(H + λI)⁻¹ w* is -1/λ of what iMAML's inverse makes of the test gradient w*."""
    rows = [[1, 2, 0], [0, 1, -1], [2, -1, 3], [1, 1, 1], [-1, 0, 2]]
    x, y = torch.tensor(rows).double(), torch.tensor([1, -2, 3, 0, 5]).double()
    inner = Ridge(lambda params, x: x, x, y, 2)
    start = {"w": torch.zeros(3, dtype=torch.float64)}
    end = hessian_free(inner, start, ("w",), 3, proximal=lam, cg_steps=3)
    assert end["w"].tolist() == pytest.approx(solution, rel=1e-9)
    pulled, _ = implicit_gradient(inner, end, end, ("w",), lam=lam, cg_steps=3)
    assert (-pulled["w"] / lam).tolist() == pytest.approx(slope, rel=1e-9)
