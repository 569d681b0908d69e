"""The summary of a folder of VTAB tasks for `data check`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fewshot_lite.core.errors import FewshotError
from fewshot_lite.images.image_sizes import size_range
from fewshot_lite.published.summary import DataSet, Summary
from fewshot_lite.published.vtab.catalogue import GROUPS, TASKS, TaskData, find_tasks, missing_line
from fewshot_lite.published.vtab.pool import Splits
from fewshot_lite.published.vtab.stored import WholeImage

#: The number of training images that the protocol takes.
SUPPORT = 1000

#: The most images of a split that are opened.
_MOST_READ = 50


def describe(root: Path) -> Summary | None:
    """Summarise tasks, images, splits and faults; None if the folder holds nothing of VTAB."""
    contents = find_tasks(root)
    if not contents.tasks and not contents.problems:
        return None
    data_sets: list[DataSet] = []
    problems = list(contents.problems.values())
    notes: list[str] = []
    for data in contents.tasks:
        try:
            splits = data.splits()
            data_set, unreadable = _data_set(data, splits)
        except FewshotError as error:
            problems.append(str(error))
            continue
        data_sets.append(data_set)
        problems += [*_incomplete(data, splits), *unreadable]
        notes += [f"{data.task.name}: {note}." for note in splits.notes]
    held = [data.task.group for data in contents.tasks]
    groups = ", ".join(
        f"{group} {held.count(group)} of {sum(t.group == group for t in TASKS)}" for group in GROUPS
    )
    notes.insert(0, f"{len(held)} of {len(TASKS)} tasks: {groups}.")
    notes += [f"{missing_line(task)}." for task in contents.absent]
    return Summary("VTAB-v2", root, tuple(data_sets), tuple(problems), tuple(notes))


def _data_set(data: TaskData, splits: Splits) -> tuple[DataSet, list[str]]:
    """Return the row of a task, and problems with its files."""
    all_splits = (("train", splits.train), ("val", splits.val), ("test", splits.test))
    named = [(name, pool) for name, pool in all_splits if pool is not None]
    sizes = []
    unreadable: list[str] = []
    for _, pool in named:
        if pool.size is not None:
            sizes.append(pool.size)
            continue
        some = np.unique(np.linspace(0, len(pool) - 1, min(len(pool), _MOST_READ)).astype(np.int64))
        images = (image.source for image in pool.sources(some) if isinstance(image, WholeImage))
        paths = [path for path in images if isinstance(path, Path)]
        seen, bad = size_range(paths)
        sizes += seen or ()
        unreadable += bad
    smallest = min(sizes, key=lambda s: s[0] * s[1], default=None)
    largest = max(sizes, key=lambda s: s[0] * s[1], default=None)
    row = DataSet(
        name=data.task.name,
        classes=len(splits.class_names),
        images=sum(len(pool) for _, pool in named),
        splits=tuple((name, len(pool)) for name, pool in named),
        sizes=(smallest, largest) if smallest and largest else None,
    )
    return row, unreadable


def _incomplete(data: TaskData, splits: Splits) -> list[str]:
    task = data.task
    problems = []
    if len(splits.class_names) != task.classes:
        problems.append(
            f"{data.folder}: {len(splits.class_names)} classes; {task.name} has {task.classes}. "
            f"Complete it from {task.url}."
        )
    available = len(splits.train) + (0 if splits.val is None else len(splits.val))
    if available < SUPPORT:
        problems.append(
            f"{data.folder}: {available:,} training images; {task.name} takes {SUPPORT:,}. "
            f"Complete it from {task.url}."
        )
    if not len(splits.test):
        problems.append(f"{data.folder}: no test images. Complete it from {task.url}.")
    return problems
