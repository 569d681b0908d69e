"""Pass many images through a network in micro-batches."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

#: Factory of the context that networks run in.
Cast = Callable[[], contextlib.AbstractContextManager[None]]


@dataclass(frozen=True)
class Passes:
    """Size and precision of the passes through networks."""

    micro_batch: int = 64
    """Images per pass; does not change results."""
    cast: Cast = contextlib.nullcontext
    """Factory of the context of networks, e.g. autocast. Heads run in float32 or better."""

    def map(self, function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """Apply a function to micro-batches of images; return one tensor in float32 or better."""
        results = []
        for batch in images.split(self.micro_batch):
            with self.cast():
                result = function(batch)
            results.append(result.to(torch.promote_types(result.dtype, torch.float32)))
        return torch.cat(results)

    def split(self, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Split tensors with equally many rows into micro-batches."""
        return zip(*(tensor.split(self.micro_batch) for tensor in tensors), strict=True)
