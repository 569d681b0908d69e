"""The check of a data folder: its format, classes and images, and its faults."""

from __future__ import annotations

from pathlib import Path

from fewshot_lite.core.errors import FewshotError
from fewshot_lite.core.files import as_path
from fewshot_lite.core.text import some_of
from fewshot_lite.images.folders import ImageFolder, require_folder, scan_collection
from fewshot_lite.images.image_sizes import size_range
from fewshot_lite.published.meta_dataset import describe as meta_dataset
from fewshot_lite.published.orbit import check as orbit
from fewshot_lite.published.summary import DataSet, Summary
from fewshot_lite.published.vtab import describe as vtab

#: The most files of a data set whose headers are read, evenly spread over it.
_MOST_READ = 20_000

#: The most skipped files and classes that are named.
_NAMED = 3


def check_data(root: str | Path) -> Summary:
    """Recognise the format of a folder and summarise its contents.

    Raises:
        UsageError: no such folder.
        FewshotError: a folder that no reader knows.
    """
    root = as_path(root, "root")
    require_folder(root)
    for describe in (meta_dataset.describe, orbit.describe, vtab.describe):
        summary = describe(root)
        if summary is not None:
            return summary
    return _describe_folders(root)


def _describe_folders(root: Path) -> Summary:
    """Summarise class folders, or a folder of several such data sets."""
    try:
        folders = scan_collection(root)
    except FewshotError as error:
        raise type(error)(
            f"{error} (Nor is it a folder of Meta-Dataset, ORBIT or VTAB-v2.)"
        ) from None
    data_sets: list[DataSet] = []
    problems: list[str] = []
    notes: list[str] = []
    for data in folders:
        row, unreadable = _data_set(data)
        data_sets.append(row)
        problems += [*unreadable, *_empty(data)]
        notes += _remarks(data)
    single = len(folders) == 1 and folders[0].root == root
    name = "image folder" if single else "collection of image folders"
    return Summary(name, root, tuple(data_sets), tuple(problems), tuple(notes))


def _data_set(data: ImageFolder) -> tuple[DataSet, list[str]]:
    step = max(1, len(data.paths) // _MOST_READ)
    sizes, unreadable = size_range(data.paths[::step])
    return DataSet(data.name, len(data.class_names), len(data.paths), sizes=sizes), unreadable


def _empty(data: ImageFolder) -> list[str]:
    counts = [len(indices) for indices in data.indices_by_class()]
    pairs = zip(data.class_names, counts, strict=True)
    empty = [name for name, count in pairs if count == 0]
    problems = []
    if empty:
        problems.append(
            f"{data.root}: no photos in {some_of(empty, _NAMED)}. Add some, or remove the folders."
        )
    if len(counts) - len(empty) < 2:
        problems.append(f"{data.root}: fewer than 2 classes with photos. Add one folder per class.")
    return problems


def _remarks(data: ImageFolder) -> list[str]:
    notes = []
    counts = [len(indices) for indices in data.indices_by_class()]
    if any(counts):
        fewest, most = min(counts), max(counts)
        span = f"{fewest:,} to {most:,}" if fewest < most else f"{most:,}"
        notes.append(f"{data.name}: {span} image{'s' if most != 1 else ''} a class.")
    single = [name for name, count in zip(data.class_names, counts, strict=True) if count == 1]
    if single:
        notes.append(
            f"{data.name}: one image in {some_of(single, _NAMED)}; "
            "tasks need two, for support and query."
        )
    for item in data.skipped[:_NAMED]:
        notes.append(f"{item.path}: skipped, {item.reason}.")
    if len(data.skipped) > _NAMED:
        notes.append(f"{data.name}: {len(data.skipped) - _NAMED:,} more files skipped.")
    return notes
