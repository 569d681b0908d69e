"""Batch normalisation by the statistics of the support set.

The MAML papers normalise each batch by its own statistics: support images by the support set's,
queries by those of all queries, so that the answer for a photo depends on the other queries. Here
queries are normalised by the support set's statistics as well (MetaBN of Bronskill et al. 2020,
"TaskNorm", section 3), so an adapted network is an ordinary one with fixed statistics.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Means and variances by buffer name.
Recorded = dict[str, Tensor]


class SupportNorm(nn.BatchNorm2d):
    """BatchNorm2d that normalises by the support set within `support_rows`."""

    #: N, the support images at the beginning of a batch; None uses the running statistics.
    rows: int | None = None
    record: Recorded | None = None
    name: str = ""

    @classmethod
    def of(cls, layer: nn.BatchNorm2d) -> SupportNorm:
        """Return a layer that shares the parameters and buffers of another."""
        new = cls(layer.num_features, layer.eps, layer.momentum)
        new.weight, new.bias = layer.weight, layer.bias
        new.running_mean, new.running_var = layer.running_mean, layer.running_var
        new.num_batches_tracked = layer.num_batches_tracked
        return new.train(layer.training)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, H, W)."""
        if self.rows is None:
            return super().forward(x)
        if self.rows == len(x) and self.record is None:
            return F.batch_norm(x, None, None, self.weight, self.bias, True, 0.0, self.eps)
        variance, mean = torch.var_mean(x[: self.rows], dim=(0, 2, 3), correction=0)
        if self.record is not None:
            self.record[f"{self.name}.running_mean"] = mean
            self.record[f"{self.name}.running_var"] = variance
        scale = self.weight * (variance + self.eps).rsqrt()
        shift = self.bias - mean * scale
        return x * scale[:, None, None] + shift[:, None, None]


def use_support_norm(network: nn.Module) -> None:
    """Replace each `BatchNorm2d` by `SupportNorm`, but not subclasses with an activation."""
    for path, module in list(network.named_modules()):
        if type(module) is nn.BatchNorm2d:
            parent, _, leaf = path.rpartition(".")
            setattr(network.get_submodule(parent), leaf, SupportNorm.of(module))


@contextlib.contextmanager
def support_rows(network: nn.Module, rows: int, record: Recorded | None = None) -> Iterator[None]:
    """Context in which the first `rows` images of each batch determine the norm statistics.

    Args:
        network: its `SupportNorm` layers are affected, if any.
        rows: N.
        record: receives the means and variances, by buffer name in `network`.
    """
    layers = [(n, m) for n, m in network.named_modules() if isinstance(m, SupportNorm)]
    for name, layer in layers:
        layer.rows, layer.record, layer.name = rows, record, name
    try:
        yield
    finally:
        for _, layer in layers:
            layer.rows, layer.record = None, None
