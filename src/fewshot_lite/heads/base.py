"""The base class of heads: a fit to the support features, and logits of query features.

A head is two pure functions of tensors, so that LITE can cut the graph between them: `fit` depends
on the support set alone and is run once a task, `logits` once a micro-batch of queries.

`docs/architecture.md` says where a new head is listed. A closed form for leave-one-out is worth
having where there is one (`leave_one_out`); without it, the head is fitted again without each
photo.
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

#: The statistics of a support set: names to tensors (float ones carry gradients).
Statistics = dict[str, Tensor]


@dataclass(frozen=True)
class SupportSet:
    """What heads are fitted to and calibrated by."""

    features: Tensor
    """(N, d)."""
    labels: Tensor
    """int64 (N,) of 0..K-1, every class present."""
    classes: int
    """K."""
    groups: Tensor | None = None
    """int64 (N,), what is left out together; see `Head.leave_one_out_logits`."""
    queries: Tensor | None = None
    """bool (N,), rows that are as queries are seen; see `calibration.calibrate`."""

    def arrays(self) -> tuple[Support, Array | None]:
        """As `array_head.ArrayHead` takes it."""
        return (as_array(self.features), as_array(self.labels), self.classes), as_array(self.groups)


class Head(nn.Module, ABC):
    """Tells classes apart by features; its parameters are learned in meta-training."""

    kind: ClassVar[str]
    """The identifier of this class of heads in files, a key of `registry._KINDS`."""
    refits: ClassVar[bool] = True
    """Whether `fit` to other features gives another classifier; not after gradient steps."""

    @property
    def name(self) -> str:
        """The estimator's one name, as `adapt --head` and `evaluate` spell it."""
        return self.kind

    @property
    def way(self) -> int | None:
        """The one number of classes that it can tell apart; None for any."""
        return None

    def options(self) -> dict[str, Any]:
        """The constructor's arguments that no parameter holds, JSON-able."""
        return {}

    def describe(self) -> dict[str, Any]:
        """A JSON-able description, of which `registry.make_head` makes a head again."""
        return {"name": self.kind, **self.options()}

    @abstractmethod
    def fit(self, features: Tensor, labels: Tensor, classes: int) -> Statistics:
        """Statistics of a support set.

        Args:
            features: (N, d).
            labels: int64 (N,) of 0..K-1, every class present.
            classes: K.

        Raises:
            ValueError: a class without images.
        """

    @abstractmethod
    def logits(self, statistics: Statistics, features: Tensor) -> Tensor:
        """Logits (Q, K) of query features (Q, d)."""

    def reordered(self, order: Sequence[int]) -> Head:
        """The head for labels in which class k is what class order[k] was."""
        return self

    def recalibrated(self, support: SupportSet) -> Head:
        """The head for another support set; itself if it is not calibrated."""
        return self

    @property
    def temperature_factor(self) -> float:
        """The factor of `calibrated` on its logits; 1 if it is not calibrated."""
        return 1.0

    def _hold(self, *, learned: bool, **constants: float) -> None:
        """Keep positive constants by their logarithms, `log_NAME`, as parameters or as they are."""
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
        """Leave-one-out: logits of every support image by the head fitted to the others.

        Equal to fitting again without each photo, by a closed form where there is one.

        Args:
            features: (N, d).
            labels: int64 (N,) of 0..K-1, every class present.
            classes: K.
            groups: int64 (N,), numbers of what is left out together: the views of a photo, the
                frames of a clip. None if every row is left out alone.

        Returns:
            (N, K) in the features' type, float32 or better, on their device; NaN in the rows of a
            group that is its class's only one.

        Raises:
            ValueError: a class without images, a group in two classes, or a head that does not
                refit (`personal.cross_adaptation` leaves photos out of gradient steps).
        """
        if not self.refits:
            raise ValueError("an adapted head cannot be fitted without an image")
        support, photos = (as_array(features), as_array(labels), classes), as_array(groups)
        description = self.describe()
        if leave_one_out.has_form(description):
            given = description, state_of(self), support, photos
            found = torch.from_numpy(leave_one_out.leave_one_out_logits(*given))
        else:
            found = torch.full((len(labels), classes), torch.nan, dtype=torch.float64)
            for rows in leave_one_out.photos_by_size(support[1], classes, photos):
                chosen = torch.from_numpy(rows)
                found[chosen] = self._leave_one_out(features, labels, classes, chosen).to(found)
        return found.to(features.device, torch.promote_types(features.dtype, torch.float32))

    def _leave_one_out(
        self, features: Tensor, labels: Tensor, classes: int, rows: Tensor
    ) -> Tensor:
        """Logits (P, g, K) of P photos of g rows each, rows int64 (P, g), none alone in its class.

        For any head, by fitting it again without each photo.
        """
        found = []
        for out in rows:
            kept = torch.ones_like(labels, dtype=torch.bool)
            kept[out] = False
            statistics = self.fit(features[kept], labels[kept], classes)
            found.append(self.logits(statistics, features[out]))
        return torch.stack(found)
