"""VTAB-v2: one task a data set, 1,000 training images as support, the whole test split as queries.

Zhai et al. 2019 (arXiv 1910.04867), section 2 and appendix: 800 training and 200 validation images.
Dumoulin et al. 2021 (arXiv 2104.02638) and the LITE paper leave DTD out and report the mean over
all 18 tasks and over those of each group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.random_streams import Stream, generator
from fewshot_lite.evaluation.protocols.base import EvaluationTask
from fewshot_lite.images.folders import require_folder
from fewshot_lite.images.photo import Source
from fewshot_lite.published.vtab.catalogue import GROUPS, TASKS, Found, require
from fewshot_lite.published.vtab.pool import Pool, Rows, Splits

#: Streams of random numbers, so that one draw does not shift another.
_SUPPORT, _VALIDATION, _QUERIES = range(3)


@dataclass(frozen=True)
class GroupMean:
    """The mean score of a group of tasks."""

    mean: float | None
    """None where no task of the group was scored."""
    tasks: int
    """How many went into it."""
    of: int
    """How many the benchmark has."""

    @property
    def complete(self) -> bool:
        """Whether it may be compared with published ones."""
        return self.tasks == self.of


def group_means(scores: Mapping[str, float]) -> dict[str, GroupMean]:
    """Means of `natural`, `specialized`, `structured` and `all` tasks.

    Args:
        scores: task name -> accuracy; tasks that are not of VTAB-v2 do not count.
    """
    means = {}
    for group in (*GROUPS, "all"):
        members = [task.name for task in TASKS if group in ("all", task.group)]
        scored = [scores[name] for name in members if name in scores]
        mean = sum(scored) / len(scored) if scored else None
        means[group] = GroupMean(mean, len(scored), len(members))
    return means


class VtabProtocol:
    """The tasks of VTAB-v2 that a folder holds; an `EvaluationProtocol` whose groups are tasks."""

    name = "VTAB-v2"

    def __init__(
        self,
        root: Path,
        *,
        seed: int = 0,
        support: int = 1000,
        max_queries: int | None = None,
        tasks: Sequence[str] | None = None,
    ) -> None:
        """Look which tasks are there; their labels are read when a task is asked for.

        Args:
            root: the folder with all data sets; see `fewshot_lite.published.vtab.catalogue`.
            seed: of the draws.
            support: support images of a task; the benchmark has 1,000.
            max_queries: a random part of the test split, for a quick look; None is all of it.
            tasks: names of those wanted; None is all.

        Raises:
            UsageError: no such folder, no such task.
            FewshotError: none of the tasks is there.
        """
        self._contents = require(require_folder(root))
        self._seed, self._support, self._max_queries = seed, support, max_queries
        for name in tasks or ():
            if name not in {task.name for task in TASKS}:
                known = ", ".join(task.name for task in TASKS)
                raise UsageError(f"{name!r}: VTAB-v2 has no such task. It has {known}.")
        self._found = [f for f in self._contents.found if tasks is None or f.task.name in tasks]
        if not self._found:
            raise FewshotError(f"{root}: {', '.join(tasks or ())} is not in this folder.")
        self._learned: dict[int, list[str]] = {}

    @property
    def groups(self) -> tuple[str, ...]:
        """The names of the tasks that are there, in the order of tables."""
        return tuple(found.task.name for found in self._found)

    @property
    def notes(self) -> tuple[str, ...]:
        """Tasks left out and departures; those of a task's data only once it was read."""
        notes = []
        left_out = [task.name for task in TASKS if task.name not in self.groups]
        if left_out:
            notes.append(
                f"{len(left_out)} of {len(TASKS)} tasks are left out ({', '.join(left_out)}): the "
                "mean over all tasks is incomplete and not comparable with published ones."
            )
        notes += self._contents.problems.values()
        if any(found.layout != "lists" for found in self._found):
            notes.append(
                "Support images are a seeded draw of the training images with every class in it; "
                "published are the first in the order of TensorFlow Datasets, which only the "
                "VTAB-1k lists (train800val200.txt) keep."
            )
        if self._support != 1000:
            notes.append(f"{self._support:,} support images a task; the benchmark has 1,000.")
        if self._max_queries is not None:
            notes.append(
                f"At most {self._max_queries:,} queries a task; the benchmark has the whole test "
                "split."
            )
        notes.append(
            "Splits are VTAB's. The LITE paper's code takes all support images from the training "
            "split, all of smallNORB's test images, and for sets without a test split (eurosat, "
            "resisc45, dsprites) all other images as queries."
        )
        return (
            *notes,
            *(note for number in sorted(self._learned) for note in self._learned[number]),
        )

    def __len__(self) -> int:
        """One for each data set."""
        return len(self._found)

    def task(self, number: int) -> EvaluationTask:
        """The task of data set `number`.

        Raises:
            FewshotError: its data are damaged, or too few for the support.
        """
        found = self._found[number]
        splits = found.splits()
        support, support_labels = self._draw_support(found, splits)
        queries = np.arange(len(splits.test), dtype=np.int64)
        present = np.unique(support_labels)
        known = np.isin(splits.test.labels, present)
        learned = [f"{found.task.name}: {note}." for note in splits.notes]
        if not known.all():
            unknown = np.unique(splits.test.labels[~known])
            learned.append(
                f"{found.task.name}: {int((~known).sum()):,} of {len(known):,} test images are "
                f"left out, of {len(unknown)} classes that have no support image; published "
                f"figures count them as errors (times {known.mean():.4f})."
            )
        self._learned[number] = learned
        queries = queries[known]
        if not len(queries):
            raise FewshotError(f"{found.folder}: no test images of classes that are in training.")
        if self._max_queries is not None:
            queries = queries[self._order(len(queries), found, _QUERIES)]
            queries = np.sort(queries[: self._max_queries])
        labels = np.searchsorted(present, splits.test.labels[queries])
        return EvaluationTask(
            group=found.task.name,
            class_names=tuple(splits.class_names[label] for label in present),
            support=support,
            support_labels=tuple(np.searchsorted(present, support_labels).tolist()),
            query=splits.test.sources(queries),
            query_labels=tuple(labels.tolist()),
        )

    def _draw_support(self, found: Found, splits: Splits) -> tuple[tuple[Source, ...], Rows]:
        """Images and their labels; a fifth from validation images where there are such."""
        from_val = 0 if splits.val is None else self._support // 5
        parts = [(splits.train, self._support - from_val, _SUPPORT)]
        if splits.val is not None:
            parts.append((splits.val, from_val, _VALIDATION))
        sources: list[Source] = []
        labels: list[Rows] = []
        for pool, count, split in parts:
            if len(pool) < count:
                raise FewshotError(
                    f"{found.folder}: {len(pool):,} images where {found.task.name} takes {count:,} "
                    f"for the support set. Complete it from {found.task.url}."
                )
            chosen = _draw(pool, count, self._order(len(pool), found, split))
            sources += pool.sources(chosen)
            labels.append(pool.labels[chosen])
        return tuple(sources), np.concatenate(labels)

    def _order(self, count: int, found: Found, split: int) -> Rows:
        """A random order that depends on the task, not on which others there are."""
        random = generator(self._seed, Stream.VTAB_IMAGES, TASKS.index(found.task), split)
        order: Rows = torch.randperm(count, generator=random).numpy()
        return order


def _draw(pool: Pool, count: int, order: Rows) -> Rows:
    """The first of each class in an order, then others in this order; sorted."""
    _, first = np.unique(pool.labels[order], return_index=True)
    first = np.sort(first)
    others = np.setdiff1d(np.arange(len(order)), first)
    return np.sort(order[np.concatenate([first, others])[:count]])
