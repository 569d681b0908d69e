"""A head as functions of NumPy's arrays: what calibration and the choice of a head need of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fewshot_lite.heads import leave_one_out
from fewshot_lite.heads.in_numpy import COUNT_POWER, Array, Logits, Support, fit_head


class ArrayHead(ABC):
    """Tells classes apart by features; in double precision where it has a form in NumPy."""

    @abstractmethod
    def fit(self, support: Support) -> Logits:
        """The logits (Q, K) of features (Q, d), by a support set."""

    @abstractmethod
    def leave_one_out_logits(self, support: Support, groups: Array | None = None) -> Array:
        """Leave-one-out, float64 (N, K); see `leave_one_out.leave_one_out_logits`."""

    @abstractmethod
    def count_gain(self, counts: Array) -> Array:
        """What a class's logit gains by its number of rows, of counts (N,) above 0: t c / n^p."""

    @abstractmethod
    def calibrated(self, factor: float, count_offset: float) -> ArrayHead:
        """The head with a factor t and a count offset c; see `calibrated.CalibratedHead`."""


@dataclass(frozen=True)
class DescribedHead(ArrayHead):
    """A head by what a file says of it: one that `leave_one_out.has_form`."""

    description: Mapping[str, Any]
    """What `Head.describe` says."""
    tensors: Mapping[str, Array]
    """Its state."""

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
