"""NumPy versions of `set_encoder.MapEncoder` and `film.FilmGenerator`, without importing torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fewshot_lite.core.tensor_files import under

_Array = npt.NDArray[Any]
#: Of torch's LayerNorm.
_EPSILON = 1e-5
#: Prefix of the FiLM generator's parameters in a learner's state dict.
_FILM = "film.layers."


def map_statistics(maps: _Array) -> _Array:
    """Return mean and standard deviation of each channel of maps (B, C, H, W): (B, 2C)."""
    return np.concatenate([maps.mean((2, 3)), maps.std((2, 3))], 1)


def embedded(statistics: _Array, state: Mapping[str, _Array]) -> _Array:
    """Return e(x), (B, Z), from `map_statistics` and the learner's state dict.

    Raises:
        KeyError, ValueError: the state has no such set encoder.
    """
    x = (statistics - state["set_encoder.centre"]) / state["set_encoder.spread"]
    x = np.maximum(_linear(x, "set_encoder.layers.0", state), 0)
    return _linear(x, "set_encoder.layers.2", state)


def generated(z: _Array, state: Mapping[str, _Array]) -> dict[str, _Array]:
    """Return θ = g(z): weights and biases (C,) of norm layers, by name in the backbone.

    Args:
        z: task embedding (Z,).
        state: the learner's state dict.

    Raises:
        KeyError, ValueError: the state has no such generator.
    """
    parameters: dict[str, _Array] = {}
    for key in sorted({name.partition(".")[0] for name in under(_FILM, state)}):
        layer = key.replace("/", ".")
        weight, bias = (state[f"backbone.{layer}.{part}"] for part in ("weight", "bias"))
        gamma = 1 + state[f"{_FILM}{key}.rho"] * _mlp(z, f"{_FILM}{key}.gamma", state)
        beta = state[f"{_FILM}{key}.sigma"] * _mlp(z, f"{_FILM}{key}.beta", state)
        parameters |= {f"{layer}.weight": gamma * weight, f"{layer}.bias": gamma * bias + beta}
    return parameters


def _mlp(z: _Array, name: str, state: Mapping[str, _Array]) -> _Array:
    x = _linear(z, f"{name}.0", state)
    x = (x - x.mean()) / np.sqrt(x.var() + _EPSILON)
    x = x * state[f"{name}.1.weight"] + state[f"{name}.1.bias"]
    return _linear(np.maximum(x, 0), f"{name}.3", state)


def _linear(x: _Array, name: str, state: Mapping[str, _Array]) -> _Array:
    weight = state[f"{name}.weight"].astype(np.float32)
    result: _Array = x @ weight.T + state[f"{name}.bias"]
    return result
