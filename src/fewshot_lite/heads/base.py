"""The base class of heads.

A head is two pure functions of tensors, so that LITE can cut the graph between them: `fit` maps the
support set to statistics, once a task, and `logits` maps statistics and query features to logits,
once a micro-batch of queries.

`docs/architecture.md` says where to list a new head. Without a closed form for leave-one-out
(`leave_one_out`) the head is refitted without each photo.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fewshot_lite.heads import leave_one_out
from fewshot_lite.heads.in_numpy import Array, Support, as_array, state_of

#: The statistics of a support set: tensors by name (float ones carry gradients).
Statistics = dict[str, Tensor]


@dataclass(frozen=True)
class SupportSet:
    """The features of a support set."""

    features: Tensor
    """(N, d)."""
    labels: Tensor
    """int64 (N,) of 0..K-1, every class present."""
    classes: int
    """K."""
    groups: Tensor | None = None
    """int64 (N,), rows of one number are left out together; see `Head.leave_one_out_logits`."""
    queries: Tensor | None = None
    """bool (N,), rows in the view in which queries are seen; see `calibration.calibrate`."""

    def arrays(self) -> tuple[Support, Array | None]:
        """Return support set and groups as `array_head.ArrayHead` takes them."""
        return (as_array(self.features), as_array(self.labels), self.classes), as_array(self.groups)


class Head(nn.Module, ABC):
    """A classifier on features, whose parameters are learned in meta-training."""

    kind: ClassVar[str]
    """The identifier of the class in files, a key of `registry._KINDS`."""
    refits: ClassVar[bool] = True
    """Whether it can be refitted to other features; not a head that gradient steps adapt."""

    @property
    def name(self) -> str:
        """The estimator's name, as `adapt --head` and `evaluate` spell it."""
        return self.kind

    @property
    def way(self) -> int | None:
        """The number of classes that it is limited to; None for any."""
        return None

    def options(self) -> dict[str, Any]:
        """Return the constructor's arguments that no parameter holds, JSON-able."""
        return {}

    def describe(self) -> dict[str, Any]:
        """Return a JSON-able description, from which `registry.make_head` makes the head again."""
        return {"name": self.kind, **self.options()}

    @abstractmethod
    def fit(self, features: Tensor, labels: Tensor, classes: int) -> Statistics:
        """Compute the statistics of a support set.

        Args:
            features: (N, d).
            labels: int64 (N,) of 0..K-1, every class present.
            classes: K.

        Raises:
            ValueError: a class without images.
        """

    @abstractmethod
    def logits(self, statistics: Statistics, features: Tensor) -> Tensor:
        """Return the logits (Q, K) of query features (Q, d)."""

    def reordered(self, order: Sequence[int]) -> Head:
        """Return the head for renumbered classes: class k is the former class order[k]."""
        return self

    def recalibrated(self, support: SupportSet) -> Head:
        """Calibrate the head on another support set, if it is calibrated."""
        return self

    @property
    def temperature_factor(self) -> float:
        """The factor of calibration on its logits; 1 if it is not calibrated."""
        return 1.0

    def _hold(self, *, learned: bool = True, **constants: float) -> None:
        """Register the logarithms of positive constants, `log_NAME`, as parameters or buffers."""
        for name, value in constants.items():
            logarithm = torch.tensor(math.log(value))
            if learned:
                self.register_parameter(f"log_{name}", nn.Parameter(logarithm))
            else:
                self.register_buffer(f"log_{name}", logarithm)

    @torch.no_grad()
    def leave_one_out_logits(
        self, features: Tensor, labels: Tensor, classes: int, groups: Tensor | None = None
    ) -> Tensor:
        """Return the logits of every support image by the head fitted to the others.

        A closed form is used where there is one; it equals fitting again without each photo.

        Args:
            features: (N, d).
            labels: int64 (N,) of 0..K-1, every class present.
            classes: K.
            groups: int64 (N,), equal for rows that are left out together: the views of a photo, the
                frames of a clip. None: each row is left out alone.

        Returns:
            (N, K) in the features' type, float32 or better, on their device; NaN in the rows of a
            group that is its class's only one.

        Raises:
            ValueError: a class without images, a group in two classes, or a head that does not
                refit (`personal.cross_adaptation` leaves photos out of gradient steps).
        """
        if not self.refits:
            raise ValueError("an adapted head cannot be fitted without an image")
        support, photos = SupportSet(features, labels, classes, groups).arrays()
        description = self.describe()
        if leave_one_out.has_form(description):
            logits = torch.from_numpy(
                leave_one_out.leave_one_out_logits(description, state_of(self), support, photos)
            )
        else:
            logits = torch.full((len(labels), classes), torch.nan, dtype=torch.float64)
            for rows in leave_one_out.photos_by_size(support[1], classes, photos):
                for out in torch.from_numpy(rows):
                    kept = torch.ones_like(labels, dtype=torch.bool)
                    kept[out] = False
                    statistics = self.fit(features[kept], labels[kept], classes)
                    logits[out] = self.logits(statistics, features[out]).to(logits)
        return logits.to(features.device, torch.promote_types(features.dtype, torch.float32))
