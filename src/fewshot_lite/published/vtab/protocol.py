"""VTAB-v2: a task per data set, of 1,000 training images as support and the test split as queries.

Zhai et al. 2019 (arXiv 1910.04867), section 2 and appendix: 800 training and 200 validation images.
Dumoulin et al. 2021 (arXiv 2104.02638) and the LITE paper leave DTD out and report the mean over
all 18 tasks and over those of each group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from fewshot_lite.core.errors import FewshotError
from fewshot_lite.core.random_streams import Stream, generator
from fewshot_lite.evaluation.protocols.base import EvaluationProtocol, EvaluationTask
from fewshot_lite.images.folders import require_folder
from fewshot_lite.images.photo import Source
from fewshot_lite.published.vtab.catalogue import GROUPS, TASKS, TaskData, require
from fewshot_lite.published.vtab.pool import Rows, Splits, VtabImages

#: The numbers of the random streams for draws of training and of validation images.
_SUPPORT, _VALIDATION = range(2)


class VtabProtocol(EvaluationProtocol):
    """The tasks of VTAB-v2 that a folder holds; every task is a group."""

    name = "VTAB-v2"

    def __init__(
        self,
        root: Path,
        *,
        seed: int = 0,
        support: int = 1000,
    ) -> None:
        """Find the tasks in a folder; labels are read only when `task` is called.

        Args:
            root: the folder of all data sets; see `fewshot_lite.published.vtab.catalogue`.
            seed: the seed of the draws.
            support: the number of support images of a task; the benchmark has 1,000.

        Raises:
            UsageError: no such folder.
            FewshotError: none of the tasks is there.
        """
        self._contents = require(require_folder(root))
        self._seed, self._support, self._tasks = seed, support, self._contents.tasks
        self._task_notes: dict[int, list[str]] = {}

    @property
    def groups(self) -> tuple[str, ...]:
        """The names of the tasks in the folder, in the order of tables."""
        return tuple(data.task.name for data in self._tasks)

    @property
    def sections(self) -> Mapping[str, Sequence[str]]:
        """The natural, the specialized, the structured, and all tasks."""
        kinds = {kind: [task.name for task in TASKS if task.group == kind] for kind in GROUPS}
        return {**kinds, "all": self.groups}

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on missing tasks and departures; those on a task's data appear once it was read."""
        notes = []
        left_out = [task.name for task in TASKS if task.name not in self.groups]
        if left_out:
            notes.append(
                f"{len(left_out)} of {len(TASKS)} tasks are left out ({', '.join(left_out)}): the "
                "mean over all tasks is incomplete and not comparable with published ones."
            )
        notes += self._contents.problems.values()
        if any(data.layout != "lists" for data in self._tasks):
            notes.append(
                "Support images are a seeded draw of the training images with every class in it; "
                "published are the first in the order of TensorFlow Datasets, which only the "
                "VTAB-1k lists (train800val200.txt) keep."
            )
        if self._support != 1000:
            notes.append(f"{self._support:,} support images a task; the benchmark has 1,000.")
        notes.append(
            "Splits are VTAB's. The LITE paper's code takes all support images from the training "
            "split, all of smallNORB's test images, and for sets without a test split (eurosat, "
            "resisc45, dsprites) all other images as queries."
        )
        return (
            *notes,
            *(note for number in sorted(self._task_notes) for note in self._task_notes[number]),
        )

    def __len__(self) -> int:
        """Return the number of data sets."""
        return len(self._tasks)

    def task(self, number: int) -> EvaluationTask:
        """Return the task of data set `number`.

        Raises:
            FewshotError: its data are damaged, or too few for the support set.
        """
        data = self._tasks[number]
        splits = data.splits()
        support, support_labels = self._draw_support(data, splits)
        queries = np.arange(len(splits.test), dtype=np.int64)
        present = np.unique(support_labels)
        known = np.isin(splits.test.labels, present)
        notes = [f"{data.task.name}: {note}." for note in splits.notes]
        if not known.all():
            unknown = np.unique(splits.test.labels[~known])
            notes.append(
                f"{data.task.name}: {int((~known).sum()):,} of {len(known):,} test images are "
                f"left out, of {len(unknown)} classes that have no support image; published "
                f"figures count them as errors (times {known.mean():.4f})."
            )
        self._task_notes[number] = notes
        queries = queries[known]
        if not len(queries):
            raise FewshotError(f"{data.folder}: no test images of classes that are in training.")
        labels = np.searchsorted(present, splits.test.labels[queries])
        return EvaluationTask(
            group=data.task.name,
            class_names=tuple(splits.class_names[label] for label in present),
            support=support,
            support_labels=tuple(np.searchsorted(present, support_labels).tolist()),
            query=splits.test.sources(queries),
            query_labels=tuple(labels.tolist()),
        )

    def _draw_support(self, data: TaskData, splits: Splits) -> tuple[tuple[Source, ...], Rows]:
        """Draw support images and their labels, a fifth of them from any validation images."""
        from_val = 0 if splits.val is None else self._support // 5
        parts = [(splits.train, self._support - from_val, _SUPPORT)]
        if splits.val is not None:
            parts.append((splits.val, from_val, _VALIDATION))
        sources: list[Source] = []
        labels: list[Rows] = []
        for pool, count, split in parts:
            if len(pool) < count:
                raise FewshotError(
                    f"{data.folder}: {len(pool):,} images where {data.task.name} takes {count:,} "
                    f"for the support set. Complete it from {data.task.url}."
                )
            chosen = _draw(pool, count, self._order(len(pool), data, split))
            sources += pool.sources(chosen)
            labels.append(pool.labels[chosen])
        return tuple(sources), np.concatenate(labels)

    def _order(self, count: int, data: TaskData, split: int) -> Rows:
        """Return a random order that does not depend on which other tasks the folder has."""
        random = generator(self._seed, Stream.VTAB_IMAGES, TASKS.index(data.task), split)
        order: Rows = torch.randperm(count, generator=random).numpy()
        return order


def _draw(pool: VtabImages, count: int, order: Rows) -> Rows:
    """Return the first `count` positions of an order, one of each class first, sorted."""
    _, first = np.unique(pool.labels[order], return_index=True)
    first = np.sort(first)
    others = np.setdiff1d(np.arange(len(order)), first)
    return np.sort(order[np.concatenate([first, others])[:count]])
