"""What every protocol gives: tasks as lists of images that are not yet decoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from fewshot_lite.images.photo import Source


@dataclass(frozen=True)
class EvaluationTask:
    """A task of a protocol; labels are 0..K-1, every class present in the support."""

    group: str
    """What its score is averaged with: a data set, a VTAB task, an ORBIT user."""
    class_names: tuple[str, ...]
    support: tuple[Source, ...]
    support_labels: tuple[int, ...]
    query: tuple[Source, ...]
    query_labels: tuple[int, ...]
    query_parts: tuple[str, ...] = ()
    """What each query image is a frame of (a video), for protocols that score by it."""


@runtime_checkable
class EvaluationProtocol(Protocol):
    """Tasks by number, always the same ones: independent of models, order and micro-batches."""

    @property
    def name(self) -> str:
        """As tables show it."""
        ...

    @property
    def groups(self) -> Sequence[str]:
        """Groups in the order of tables."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """What a reader of the figures must know: tasks left out, departures from the paper."""
        ...

    def __len__(self) -> int:
        """Tasks in all."""
        ...

    def task(self, number: int) -> EvaluationTask:
        """Task 0..len-1."""
        ...
