"""The mean loss, its gradient and its Hessian's products, whole and in micro-batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot_lite.core.config import Curvature
from fewshot_lite.lite.sampling import Chosen
from fewshot_lite.maml import objective as module
from fewshot_lite.maml.objective import Objective
from fewshot_lite.maml.params import Params

NAMES = ("w", "b")


def logits(params: Mapping[str, Tensor], x: Tensor) -> Tensor:
    return torch.tanh(x @ params["w"]) @ params["b"]


@pytest.fixture
def params() -> Params:
    return {
        "w": torch.randn(5, 4, dtype=torch.float64),
        "b": torch.randn(4, 3, dtype=torch.float64),
    }


def make(micro_batch: int | None) -> Objective:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(7, 5, dtype=torch.float64, generator=generator)
    return Objective(logits, x, torch.arange(7) % 3, micro_batch)


def flat(params: Params) -> Tensor:
    return torch.cat([params[name].flatten() for name in NAMES])


def hessian(objective: Objective, params: Params) -> Tensor:
    def loss(vector: Tensor) -> Tensor:
        w, b = vector[:20].view(5, 4), vector[20:].view(4, 3)
        found = logits({"w": w, "b": b}, objective.inputs)
        return F.cross_entropy(found, objective.labels)

    full: Tensor = torch.autograd.functional.hessian(loss, flat(params))  # type: ignore[no-untyped-call]
    return full


@pytest.mark.parametrize("micro_batch", [None, 1, 3, 7, 100])
def test_value_gradient_and_products(params: Params, micro_batch: int | None) -> None:
    objective = make(micro_batch)
    leaves = {k: v.clone().requires_grad_() for k, v in params.items()}
    loss = F.cross_entropy(logits(leaves, objective.inputs), objective.labels)
    loss.backward()
    found, value = objective.gradient(params, NAMES)
    assert torch.allclose(value, loss)
    assert torch.allclose(objective.value(params), loss)
    for name, leaf in leaves.items():
        assert leaf.grad is not None
        assert torch.allclose(found[name], leaf.grad)
    vector = {k: torch.randn_like(v) for k, v in params.items()}
    product = objective.hessian_product(params, vector, NAMES)
    assert torch.allclose(flat(product), hessian(objective, params) @ flat(vector))


def test_products_with_part_of_the_parameters(params: Params) -> None:
    objective = make(2)
    vector = {"b": torch.randn_like(params["b"])}
    whole = objective.hessian_product(params, {"w": 0 * params["w"], **vector}, NAMES)
    assert torch.allclose(flat(objective.hessian_product(params, vector, NAMES)), flat(whole))
    assert objective.hessian_product(params, vector, ("b",)).keys() == {"b"}
    only, _ = objective.gradient(params, ("b",))
    assert only.keys() == {"b"}


def test_weighted_images_estimate_the_product(params: Params) -> None:
    objective = make(2)
    vector = {k: torch.randn_like(v) for k, v in params.items()}
    exact = flat(objective.hessian_product(params, vector, NAMES))
    weight = torch.full((1,), 7.0, dtype=torch.float64)
    parts = [
        flat(objective.hessian_product(params, vector, NAMES, Chosen(torch.tensor([n]), weight)))
        for n in range(7)
    ]
    assert torch.allclose(torch.stack(parts).mean(0), exact)
    assert not torch.allclose(parts[0], exact)


def gauss_newton(objective: Objective, params: Params) -> Tensor:
    def found(vector: Tensor) -> Tensor:
        w, b = vector[:20].view(5, 4), vector[20:].view(4, 3)
        return logits({"w": w, "b": b}, objective.inputs)

    jacobian: Tensor = torch.autograd.functional.jacobian(found, flat(params))  # type: ignore[no-untyped-call]
    p = found(flat(params)).softmax(1)
    inner = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    return torch.einsum("nki,nkl,nlj->ij", jacobian, inner, jacobian) / len(p)


@pytest.mark.parametrize("micro_batch", [None, 3])
def test_gauss_newton_is_as_written_out_and_never_indefinite(
    params: Params, micro_batch: int | None
) -> None:
    objective = make(micro_batch)
    vector = {k: torch.randn_like(v) for k, v in params.items()}
    matrix = gauss_newton(objective, params)
    product = objective.product("gauss-newton", params, vector, NAMES)
    assert torch.allclose(flat(product), matrix @ flat(vector))
    assert float(torch.linalg.eigvalsh(matrix)[0]) > -1e-12
    assert float(torch.linalg.eigvalsh(hessian(objective, params))[0]) < -1e-3  # the Hessian is
    head = {"b": vector["b"]}  # the logits are linear in it: there both are alike
    alike = [objective.product(name, params, head, ("b",))["b"] for name in get_args(Curvature)]
    assert torch.allclose(*alike)


def test_reverse_mode_takes_over_where_forward_mode_is_missing(
    params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = make(None)
    vector = {k: torch.randn_like(v) for k, v in params.items()}
    expected = [
        flat(objective.product(name, params, vector, NAMES)) for name in get_args(Curvature)
    ]

    def refuse(*args: Any) -> None:
        raise NotImplementedError("Trying to use forward AD with foo that does not support it")

    module._load_forward_mode()
    monkeypatch.setattr(module, "jvp", refuse)
    for name, product in zip(get_args(Curvature), expected, strict=True):
        assert torch.allclose(flat(objective.product(name, params, vector, NAMES)), product)


def test_other_errors_are_not_hidden(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise RuntimeError("out of memory")

    module._load_forward_mode()
    monkeypatch.setattr(module, "jvp", refuse)
    with pytest.raises(RuntimeError, match="out of memory"):
        make(None).hessian_product(params, params, NAMES)
