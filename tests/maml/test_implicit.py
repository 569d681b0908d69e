"""Inner solvers and the implicit gradient on a quadratic, whose answers are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from fewshot_lite.maml.conjugate import conjugate_gradient
from fewshot_lite.maml.descent import gradient_descent, hessian_free
from fewshot_lite.maml.implicit import implicit_gradient
from fewshot_lite.maml.objective import Objective
from fewshot_lite.maml.params import Params

LAM = 0.7


@dataclass(frozen=True)
class Quadratic:
    """L̂(w) = ½ wᵀAw - bᵀw over w = (φ, ψ), each a vector of its own."""

    a: Tensor
    b: Tensor
    split: int

    def join(self, params: Any) -> Tensor:
        return torch.cat([params["phi"], params["psi"]])

    def part(self, w: Tensor, names: tuple[str, ...]) -> Params:
        parts = {"phi": w[: self.split], "psi": w[self.split :]}
        return {name: parts[name] for name in names}

    def value(self, params: Any) -> Tensor:
        w = self.join(params)
        return w @ self.a @ w / 2 - self.b @ w

    def gradient(self, params: Any, names: tuple[str, ...]) -> tuple[Params, Tensor]:
        return self.part(self.a @ self.join(params) - self.b, names), self.value(params)

    def product(
        self, curvature: str, params: Any, vector: Params, names: tuple[str, ...]
    ) -> Params:
        zeros = {"phi": self.b[: self.split] * 0, "psi": self.b[self.split :] * 0}
        return self.part(self.a @ self.join(zeros | vector), names)


def quadratic(split: int = 4, psi: int = 3) -> tuple[Objective, Quadratic]:
    root = torch.randn(split + psi, split + psi, dtype=torch.float64)
    plain = Quadratic(root @ root.mT / 4, torch.randn(split + psi, dtype=torch.float64), split)
    return cast(Objective, plain), plain


def vectors(plain: Quadratic) -> Params:
    return plain.part(torch.randn(len(plain.b), dtype=torch.float64), ("phi", "psi"))


def solution(plain: Quadratic, start: Params) -> Tensor:
    """φ* = (A_φφ + λI)⁻¹ (b_φ - A_φψ ψ + λ φ⁰)."""
    n = plain.split
    matrix = plain.a[:n, :n] + LAM * torch.eye(n, dtype=torch.float64)
    return torch.linalg.solve(
        matrix, plain.b[:n] - plain.a[:n, n:] @ start["psi"] + LAM * start["phi"]
    )


def test_both_solvers_reach_the_minimum_near_the_start() -> None:
    objective, plain = quadratic()
    start = vectors(plain)
    names = ("phi",)
    slow = gradient_descent(objective, start, [names] * 3000, 0.1, proximal=LAM)
    fast = hessian_free(objective, start, names, 3, proximal=LAM, cg_steps=4)
    for end in (slow, fast):
        assert torch.allclose(end["phi"], solution(plain, start), atol=1e-10)
        assert end["psi"] is start["psi"]


def test_the_meta_gradient_of_a_quadratic_is_the_closed_form() -> None:
    """By differentiating the closed form of φ* as a function of φ⁰ and ψ with autograd."""
    objective, plain = quadratic()
    start = vectors(plain)
    target = torch.randn(len(plain.b), dtype=torch.float64)

    def test_loss(params: Params) -> Tensor:
        return (plain.join(params) - target).square().sum()

    leaves = {k: v.clone().requires_grad_() for k, v in start.items()}
    test_loss({"phi": solution(plain, leaves), "psi": leaves["psi"]}).backward()
    end = {"phi": solution(plain, start), "psi": start["psi"]}
    at = {k: v.clone().requires_grad_() for k, v in end.items()}
    gradient = dict(zip(at, torch.autograd.grad(test_loss(at), list(at.values())), strict=True))
    found, negative = implicit_gradient(
        objective, end, gradient, ("phi",), lam=LAM, cg_steps=plain.split
    )
    for name, leaf in leaves.items():
        assert leaf.grad is not None
        assert torch.allclose(found[name], leaf.grad, rtol=1e-8, atol=1e-10)
    assert int(negative) == 0
    few, _ = implicit_gradient(objective, end, gradient, ("phi",), lam=LAM, cg_steps=1)
    assert not torch.allclose(few["phi"], found["phi"], rtol=1e-3)


def test_nothing_adapted_leaves_the_gradient_as_it_is() -> None:
    objective, plain = quadratic()
    gradient = vectors(plain)
    found, _ = implicit_gradient(objective, vectors(plain), gradient, (), lam=LAM, cg_steps=3)
    assert found is gradient


def test_conjugate_gradients_solve_in_as_many_steps_as_there_are_dimensions() -> None:
    root = torch.randn(6, 6, dtype=torch.float64)
    matrix = root @ root.mT + torch.eye(6, dtype=torch.float64)
    b = torch.randn(6, dtype=torch.float64)
    exact = torch.linalg.solve(matrix, b)
    errors = [
        float(
            (
                conjugate_gradient(lambda p: {"x": matrix @ p["x"]}, {"x": b}, n).x["x"] - exact
            ).norm()
        )
        for n in range(7)
    ]
    assert errors[6] < 1e-9 < errors[3] < errors[0]
    more = conjugate_gradient(lambda p: {"x": matrix @ p["x"]}, {"x": b}, 60)
    assert torch.allclose(more.x["x"], exact)
    assert not bool(more.negative_curvature)


def test_conjugate_gradients_stop_at_negative_curvature() -> None:
    matrix = torch.diag(torch.tensor([1.0, 2.0, -3.0], dtype=torch.float64))
    b = torch.tensor([1.0, 1.0, 0.1], dtype=torch.float64)
    found = conjugate_gradient(lambda p: {"x": matrix @ p["x"]}, {"x": b}, 10)
    assert bool(found.negative_curvature)
    assert bool(found.x["x"].isfinite().all())
    worst = conjugate_gradient(lambda p: {"x": -p["x"]}, {"x": b}, 10)
    assert bool(worst.negative_curvature)
    assert torch.equal(worst.x["x"], b)  # the first-order answer


def test_conjugate_gradients_of_zero_are_zero() -> None:
    found = conjugate_gradient(lambda p: p, {"x": torch.zeros(3)}, 5)
    assert not bool(found.negative_curvature)
    assert torch.equal(found.x["x"], torch.zeros(3))


def test_conjugate_gradients_run_under_vmap() -> None:
    roots = torch.randn(3, 5, 5, dtype=torch.float64)
    matrices = roots @ roots.mT + 0.5 * torch.eye(5, dtype=torch.float64)
    matrices[1] = -matrices[1]
    bs = torch.randn(3, 5, dtype=torch.float64)

    def solve(matrix: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        found = conjugate_gradient(lambda p: {"x": matrix @ p["x"]}, {"x": b}, 5)
        return found.x["x"], found.negative_curvature

    together, negative = torch.func.vmap(solve)(matrices, bs)
    assert negative.tolist() == [False, True, False]
    for matrix, b, x in zip(matrices, bs, together, strict=True):
        assert torch.allclose(x, solve(matrix, b)[0])


def test_a_newton_step_that_goes_uphill_is_not_taken() -> None:
    """Where a direction's model is wrong the line search halves it, and gives up in the end."""
    _, plain = quadratic(psi=1)
    start = vectors(plain)

    class Misleading(Quadratic):
        def gradient(self, params: Any, names: tuple[str, ...]) -> tuple[Params, Tensor]:
            found, value = super().gradient(params, names)
            return {k: -v for k, v in found.items()}, value

    misleading = cast(Objective, Misleading(plain.a, plain.b, plain.split))
    end = hessian_free(misleading, start, ("phi",), 5, proximal=0.0, cg_steps=4)
    assert torch.equal(end["phi"], start["phi"])


@pytest.mark.parametrize("names", [(), ("phi",)])
def test_descent_updates_what_it_is_told_to(names: tuple[str, ...]) -> None:
    objective, plain = quadratic()
    start = vectors(plain)
    path: list[Params] = []
    end = gradient_descent(objective, start, [names, names], 0.1, path=path)
    assert len(path) == 2
    assert torch.equal(path[0]["phi"], start["phi"])
    assert torch.equal(end["phi"], start["phi"]) == (not names)
    assert end["psi"] is start["psi"]
