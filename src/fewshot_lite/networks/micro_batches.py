"""Many images through a network, a few at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

#: Makes the context that networks run in.
Cast = Callable[[], contextlib.AbstractContextManager[None]]


@dataclass(frozen=True)
class Passes:
    """How images go through networks."""

    micro_batch: int = 64
    """Images in a pass; does not change results."""
    cast: Cast = contextlib.nullcontext
    """Makes the context that networks run in, e.g. autocast. Heads run in float32 or better."""

    def map(self, function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """A function of images, pass by pass, as one tensor in float32 or better."""
        results = []
        for batch in images.split(self.micro_batch):
            with self.cast():
                result = function(batch)
            results.append(result.to(torch.promote_types(result.dtype, torch.float32)))
        return torch.cat(results)

    def split(self, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """The rows of each pass, of tensors of as many rows."""
        return zip(*(tensor.split(self.micro_batch) for tensor in tensors), strict=True)
