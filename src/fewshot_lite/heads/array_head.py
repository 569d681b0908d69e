"""A head on NumPy arrays, as calibration and the choice of a head take it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fewshot_lite.heads import leave_one_out
from fewshot_lite.heads.in_numpy import COUNT_POWER, Array, Logits, Support, fit_head


class ArrayHead(ABC):
    """A classifier on features; in double precision where it has a form in NumPy."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The estimator's name; see `Head.name`."""

    @abstractmethod
    def fit(self, support: Support) -> Logits:
        """Fit to a support set; the result maps features (Q, d) to logits (Q, K)."""

    @abstractmethod
    def leave_one_out_logits(self, support: Support, groups: Array | None = None) -> Array:
        """Leave-one-out logits, float64 (N, K); see `leave_one_out.leave_one_out_logits`."""

    @abstractmethod
    def count_gain(self, counts: Array) -> Array:
        """Return t c / n^p, the gain of a class's logit by its number n of rows; counts (N,)."""

    @abstractmethod
    def calibrated(self, factor: float, count_offset: float) -> ArrayHead:
        """Put a factor t and a count offset c on the head; see `calibrated.CalibratedHead`."""


@dataclass(frozen=True)
class DescribedHead(ArrayHead):
    """A head by its description in a file and its state; `leave_one_out.has_form` holds for it."""

    description: Mapping[str, Any]
    """As `Head.describe` gives it."""
    tensors: Mapping[str, Array]

    @property
    def name(self) -> str:
        kind = str(self.description["name"])
        if kind == "mahalanobis" and self.description["root"]:
            return "mahalanobis-root"
        return str(self.description["metric"]) if kind == "prototypes" else kind

    def fit(self, support: Support) -> Logits:
        return fit_head(self.description, self.tensors, support)

    def leave_one_out_logits(self, support: Support, groups: Array | None = None) -> Array:
        return leave_one_out.leave_one_out_logits(self.description, self.tensors, support, groups)

    def count_gain(self, counts: Array) -> Array:
        return leave_one_out.count_gain(self.description, self.tensors, counts)

    def calibrated(self, factor: float, count_offset: float) -> DescribedHead:
        inner = {f"head.{name}": value for name, value in self.tensors.items()}
        constants = {"factor": np.float32(factor), "count_offset": np.float32(count_offset)}
        return DescribedHead(
            {"name": "calibrated", "head": dict(self.description), "count_power": COUNT_POWER},
            {**{name: np.asarray(value) for name, value in constants.items()}, **inner},
        )
