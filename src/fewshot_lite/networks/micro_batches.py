"""Many images through a network, a few at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import torch
from torch import Tensor

#: Makes the context that networks run in, e.g. autocast.
Cast = Callable[[], contextlib.AbstractContextManager[None]]


def map_batches(
    function: Callable[[Tensor], Tensor],
    images: Tensor,
    size: int,
    cast: Cast = contextlib.nullcontext,
) -> Tensor:
    """A function of images, micro-batch by micro-batch, as one tensor in float32 or better."""
    results = []
    for batch in images.split(size):
        with cast():
            result = function(batch)
        results.append(result.to(torch.promote_types(result.dtype, torch.float32)))
    return torch.cat(results)
