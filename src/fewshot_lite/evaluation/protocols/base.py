"""The interface of protocols: tasks as lists of images that are not yet decoded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from fewshot_lite.images.photo import Source


@dataclass(frozen=True)
class EvaluationTask:
    """A task of a protocol; labels are 0..K-1, and the support set has every class."""

    group: str
    """The group that its score is averaged in: a data set, a VTAB task, an ORBIT user."""
    class_names: tuple[str, ...]
    support: tuple[Source, ...]
    support_labels: tuple[int, ...]
    query: tuple[Source, ...]
    query_labels: tuple[int, ...]
    query_parts: tuple[str, ...] = ()
    """The video that each query image is a frame of, for protocols that score by it."""

    @classmethod
    def of(
        cls,
        group: str,
        class_names: Iterable[str],
        support: Sequence[tuple[Source, int]],
        query: Sequence[tuple[Source, int]],
        query_parts: Iterable[str] = (),
    ) -> EvaluationTask:
        """Make a task of pairs of image and label."""
        images, labels = zip(*support, strict=True)
        query_images, query_labels = zip(*query, strict=True)
        names, parts = tuple(class_names), tuple(query_parts)
        return cls(group, names, images, labels, query_images, query_labels, parts)


class EvaluationProtocol(ABC):
    """A numbered sequence of tasks, independent of models, order and micro-batches."""

    normal_intervals: ClassVar[bool] = False
    """Whether intervals are 1.96·std/√n however few tasks there are, as in published protocols."""
    classes: Mapping[str, Sequence[str]] = MappingProxyType({})
    """Names of the classes that tasks are drawn from, by data set, where they are known."""
    unreadable: Mapping[Source, str] = MappingProxyType({})
    """Images that were left out as they cannot be read, and why."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name in tables."""

    @property
    @abstractmethod
    def groups(self) -> Sequence[str]:
        """The groups, in the order of tables."""

    @property
    def sections(self) -> Mapping[str, Sequence[str]]:
        """Groups that tables show together, by the name of the section."""
        return {"all": self.groups}

    @property
    @abstractmethod
    def notes(self) -> Sequence[str]:
        """Notes for readers of the results: tasks left out, departures from the paper."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of tasks."""

    @abstractmethod
    def task(self, number: int) -> EvaluationTask:
        """Return task 0..len-1."""
