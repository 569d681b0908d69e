"""Whether tensors are the weights of a network: what is missing, and what has another shape."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

#: Names that a message has.
_NAMED = 3

_loading = threading.Lock()


class NotTheWeights(ValueError):
    """The message says what is missing or has another shape."""


def check_state(wanted: Mapping[str, Tensor], given: Mapping[str, Any]) -> None:
    """Refuse tensors that are not all that a network has; counts of batches may be missing.

    Args:
        wanted: the network's state.
        given: by the same names, with more than that or not.

    Raises:
        NotTheWeights: tensors are missing, or have other shapes.
    """
    missing = [key for key in wanted if key not in given and "num_batches" not in key]
    if missing:
        raise NotTheWeights(f"{_few(missing)} {'is' if len(missing) == 1 else 'are'} missing")
    other = [key for key in wanted if key in given and given[key].shape != wanted[key].shape]
    if other:
        shapes = f"{[*given[other[0]].shape]}, not {[*wanted[other[0]].shape]}"
        if len(other) == 1:
            raise NotTheWeights(f"{other[0]} has another shape: {shapes}")
        raise NotTheWeights(f"{_few(other)} have other shapes, the first {shapes}")


@contextlib.contextmanager
def loaded_whole() -> Iterator[None]:
    """While entered, modules that this thread loads are loaded whole: see `check_state`.

    For libraries that build and load a network in one function, and pass over what is missing.

    Raises:
        NotTheWeights: as `check_state`.
    """
    thread, load = threading.get_ident(), nn.Module.load_state_dict

    def checked(module: nn.Module, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() == thread:
            check_state(module.state_dict(), state_dict)
        return load(module, state_dict, *args, **kwargs)

    with _loading:
        nn.Module.load_state_dict = checked  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            nn.Module.load_state_dict = load  # type: ignore[method-assign]


def _few(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f", … and {more} more" if more > 0 else "")
