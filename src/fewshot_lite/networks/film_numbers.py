"""A set encoder of maps and FiLM in NumPy, from stored weights alone; this does not import torch.

What `set_encoder.MapEncoder` and `film.FilmGenerator` compute, without gradients.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

_Array = npt.NDArray[Any]
#: torch's, of layer normalisation.
_EPSILON = 1e-5
#: Before the names of a layer's generator in the state of a learner.
_FILM = "film.layers."


def map_statistics(maps: _Array) -> _Array:
    """Mean and deviation of each channel over maps (B, C, H, W): (B, 2C)."""
    return np.concatenate([maps.mean((2, 3)), maps.std((2, 3))], 1)


def embedded(statistics: _Array, state: Mapping[str, _Array]) -> _Array:
    """e(x), (B, Z), of the `map_statistics` of maps.

    Args:
        state: of the learner.

    Raises:
        KeyError, ValueError: it has no such set encoder.
    """
    x = (statistics - state["set_encoder.centre"]) / state["set_encoder.spread"]
    x = np.maximum(_linear(x, "set_encoder.layers.0", state), 0)
    return _linear(x, "set_encoder.layers.2", state)


def generated(z: _Array, state: Mapping[str, _Array]) -> dict[str, _Array]:
    """θ = g(z): weights and biases (C,) of norm layers, by their names in the backbone.

    Args:
        z: (Z,).
        state: of the learner.

    Raises:
        KeyError, ValueError: it has no such generator.
    """
    found: dict[str, _Array] = {}
    for key in sorted({name.partition(".")[0] for name in _under_film(state)}):
        layer = key.replace("/", ".")
        weight, bias = (state[f"backbone.{layer}.{part}"] for part in ("weight", "bias"))
        gamma = 1 + state[f"{_FILM}{key}.rho"] * _mlp(z, f"{_FILM}{key}.gamma", state)
        beta = state[f"{_FILM}{key}.sigma"] * _mlp(z, f"{_FILM}{key}.beta", state)
        found |= {f"{layer}.weight": gamma * weight, f"{layer}.bias": gamma * bias + beta}
    return found


def _under_film(state: Mapping[str, _Array]) -> list[str]:
    return [name.removeprefix(_FILM) for name in state if name.startswith(_FILM)]


def _mlp(z: _Array, name: str, state: Mapping[str, _Array]) -> _Array:
    x = _linear(z, f"{name}.0", state)
    x = (x - x.mean()) / np.sqrt(x.var() + _EPSILON)
    x = x * state[f"{name}.1.weight"] + state[f"{name}.1.bias"]
    return _linear(np.maximum(x, 0), f"{name}.3", state)


def _linear(x: _Array, name: str, state: Mapping[str, _Array]) -> _Array:
    weight = state[f"{name}.weight"].astype(np.float32)
    found: _Array = x @ weight.T + state[f"{name}.bias"]
    return found
