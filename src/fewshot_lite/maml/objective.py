"""L̂(φ), the mean loss over the support images, its gradient, and products of second derivatives.

Unless images are coupled, all are means over images and are summed over micro-batches, so memory
does not depend on N.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad, grad_and_value, jvp, vjp

from fewshot_lite.core.config import Curvature
from fewshot_lite.lite.sampling import Chosen
from fewshot_lite.maml.params import Params, add, only

#: Parameters and inputs (B, …) to logits (B, K).
Logits = Callable[[Mapping[str, Tensor], Tensor], Tensor]


@dataclass(frozen=True)
class Objective:
    """Mean cross-entropy of images as a function of parameters."""

    logits: Logits
    inputs: Tensor
    """(N, …): images, or the output of a stage that is not adapted."""
    labels: Tensor
    """int64 (N,)."""
    micro_batch: int | None
    """Images in a pass; None if images are coupled, and all must share a pass."""

    def value(self, params: Mapping[str, Tensor]) -> Tensor:
        """Return L̂, ()."""
        parts = [self._sum(params, x, y, None) for x, y, _ in self._batches(None)]
        return torch.stack(parts).sum()

    def gradient(
        self, params: Mapping[str, Tensor], names: tuple[str, ...]
    ) -> tuple[Params, Tensor]:
        """Return ∇L̂ with respect to the parameters of these names, and L̂."""
        wrt = only(params, names)
        total: Params = {}
        values = []
        for x, y, _ in self._batches(None):

            def part(w: Params, x: Tensor = x, y: Tensor = y) -> Tensor:
                return self._sum({**params, **w}, x, y, None)

            gradient, value = grad_and_value(part)(wrt)
            total = add(total, gradient) if total else gradient
            values.append(value)
        return total, torch.stack(values).sum()

    def hessian_product(
        self,
        params: Mapping[str, Tensor],
        vector: Mapping[str, Tensor],
        names: tuple[str, ...],
        chosen: Chosen | None = None,
    ) -> Params:
        """Return ∂²L̂/∂w∂u · vector, with w the parameters of `names` and u those of `vector`.

        Args:
            params: all parameters.
            vector: over names that are among `names`; 0 elsewhere.
            names: the parameters w.
            chosen: the images, with weights, that estimate the mean; None: all.
        """
        wrt = only(params, names)
        direction = {k: vector[k] if k in vector else torch.zeros_like(v) for k, v in wrt.items()}
        total: Params = {}
        for x, y, weights in self._batches(chosen):

            def slope(w: Params, x: Tensor = x, y: Tensor = y, s: Any = weights) -> Params:
                gradient: Params = grad(lambda w: self._sum({**params, **w}, x, y, s))(w)
                return gradient

            product = _along(slope, wrt, direction)
            total = add(total, product) if total else product
        return total

    def gauss_newton_product(
        self, params: Mapping[str, Tensor], vector: Mapping[str, Tensor], names: tuple[str, ...]
    ) -> Params:
        """Return the product with the Gauss-Newton matrix (1/N) Σ Jᵀ (diag p - p pᵀ) J.

        J is the derivative of an image's logits and p its probabilities: the Hessian without the
        curvature of the network itself (Schraudolph 2002), which has no negative eigenvalue.
        Arguments as `hessian_product`.
        """
        wrt = only(params, names)
        direction = {k: vector[k] if k in vector else torch.zeros_like(v) for k, v in wrt.items()}
        total: Params = {}
        for x, _, _ in self._batches(None):

            def logits(w: Params, x: Tensor = x) -> Tensor:
                return self.logits({**params, **w}, x)

            outputs, pull, *_ = vjp(logits, wrt)
            pushed, p = _pushed(logits, wrt, direction), outputs.softmax(1)
            weighted = p * pushed
            inner = weighted - p * weighted.sum(1, keepdim=True)
            product: Params = pull(inner / len(self.labels))[0]
            total = add(total, product) if total else product
        return total

    def product(
        self,
        curvature: Curvature,
        params: Mapping[str, Tensor],
        vector: Mapping[str, Tensor],
        names: tuple[str, ...],
    ) -> Params:
        """Return `hessian_product` or `gauss_newton_product`, over all images."""
        if curvature == "gauss-newton":
            return self.gauss_newton_product(params, vector, names)
        return self.hessian_product(params, vector, names)

    def _sum(
        self, params: Mapping[str, Tensor], x: Tensor, y: Tensor, weights: Tensor | None
    ) -> Tensor:
        """Return the term of some images in L̂."""
        losses = F.cross_entropy(self.logits(params, x), y, reduction="none")
        return (losses if weights is None else losses * weights).sum() / len(self.labels)

    def _batches(self, chosen: Chosen | None) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        x, y, weights = self.inputs, self.labels, None
        if chosen is not None and len(chosen.indices) < len(y):
            indices = chosen.indices.to(y.device)
            x, y, weights = x[indices], y[indices], chosen.weights.to(x)
        size = self.micro_batch or len(y)
        for start in range(0, len(y), size):
            part = slice(start, start + size)
            yield x[part], y[part], None if weights is None else weights[part]


@functools.cache
def _load_forward_mode() -> None:
    """Load torch's modules for forward mode, which warn of their deprecated parts at first use."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        jvp(torch.sin, (torch.zeros(()),), (torch.zeros(()),))


def _along(slope: Callable[[Params], Params], at: Params, direction: Params) -> Params:
    """Return the derivative of a gradient along a direction: forward over reverse if torch can."""
    _load_forward_mode()
    try:
        product: Params = jvp(slope, (at,), (direction,))[1]
    except (NotImplementedError, RuntimeError) as error:
        if "forward" not in str(error):
            raise
        pull = vjp(slope, at)[1]  # the Hessian is symmetric
        product = pull(direction)[0]
    return product


def _pushed(logits: Callable[[Params], Tensor], at: Params, direction: Params) -> Tensor:
    """Return J · direction: by forward mode if torch can, else as the derivative of uᵀJ in u."""
    _load_forward_mode()
    try:
        pushed: Tensor = jvp(logits, (at,), (direction,))[1]
    except (NotImplementedError, RuntimeError) as error:
        if "forward" not in str(error):
            raise
        outputs, pull, *_ = vjp(logits, at)
        pushed = vjp(lambda u: pull(u)[0], torch.zeros_like(outputs))[1](direction)[0]
    return pushed
