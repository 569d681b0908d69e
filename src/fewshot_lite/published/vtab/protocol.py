"""VTAB-v2: one task a data set, 1,000 training images as support, the whole test split as queries.

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
from fewshot_lite.published.vtab.catalogue import GROUPS, TASKS, Found, require
from fewshot_lite.published.vtab.pool import Rows, Splits, VtabImages

#: Streams of random numbers, so that one draw does not shift another.
_SUPPORT, _VALIDATION = range(2)


class VtabProtocol(EvaluationProtocol):
    """The tasks of VTAB-v2 that a folder holds; an `EvaluationProtocol` whose groups are tasks."""

    name = "VTAB-v2"

    def __init__(
        self,
        root: Path,
        *,
        seed: int = 0,
        support: int = 1000,
    ) -> None:
        """Look which tasks are there; their labels are read when a task is asked for.

        Args:
            root: the folder with all data sets; see `fewshot_lite.published.vtab.catalogue`.
            seed: of the draws.
            support: support images of a task; the benchmark has 1,000.

        Raises:
            UsageError: no such folder.
            FewshotError: none of the tasks is there.
        """
        self._contents = require(require_folder(root))
        self._seed, self._support, self._found = seed, support, self._contents.found
        self._learned: dict[int, list[str]] = {}

    @property
    def groups(self) -> tuple[str, ...]:
        """The names of the tasks that are there, in the order of tables."""
        return tuple(found.task.name for found in self._found)

    @property
    def sections(self) -> Mapping[str, Sequence[str]]:
        """The three groups of tasks, and all of them."""
        kinds = {kind: [task.name for task in TASKS if task.group == kind] for kind in GROUPS}
        return {**kinds, "all": self.groups}

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


def _draw(pool: VtabImages, count: int, order: Rows) -> Rows:
    """The first of each class in an order, then others in this order; sorted."""
    _, first = np.unique(pool.labels[order], return_index=True)
    first = np.sort(first)
    others = np.setdiff1d(np.arange(len(order)), first)
    return np.sort(order[np.concatenate([first, others])[:count]])
