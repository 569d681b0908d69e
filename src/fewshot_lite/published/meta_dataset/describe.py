"""The summary of a folder of Meta-Dataset for `data check`."""

from __future__ import annotations

from pathlib import Path

from fewshot_lite.core.errors import FewshotError
from fewshot_lite.published.meta_dataset.reader import (
    converted_folders,
    is_meta_dataset,
    open_class,
)
from fewshot_lite.published.meta_dataset.spec import DataSetSpec, read_spec
from fewshot_lite.published.summary import DataSet, Summary

#: The most class files that are named.
_NAMED = 3

#: The most images of a data set whose class files are indexed, which takes seconds.
_MOST_INDEXED = 100_000


def describe(root: Path) -> Summary | None:
    """Summarise classes, images and splits by the specifications; None if it is not Meta-Dataset.

    The records of class files are counted in smaller data sets only: QuickDraw alone has 50
    million. Evaluation and training index the files that they use in any case.
    """
    if not is_meta_dataset(root):
        return None
    specs: list[DataSetSpec] = []
    problems: list[str] = []
    for folder in converted_folders(root):
        try:
            spec = read_spec(folder)
        except FewshotError as error:
            problems.append(str(error))
        else:
            specs.append(spec)
            problems += _missing(spec) or _damaged(spec)
    return Summary(
        "Meta-Dataset",
        root,
        tuple(_data_set(spec) for spec in specs),
        tuple(problems),
        (
            "Splits are of classes; numbers of images are the specification's.",
            *(
                f"{spec.name}: too large to go through its records here."
                for spec in specs
                if _large(spec)
            ),
        ),
    )


def _large(spec: DataSetSpec) -> bool:
    return sum(spec.images[number] for number in _classes(spec)) > _MOST_INDEXED


def _classes(spec: DataSetSpec) -> list[int]:
    return [number for numbers in spec.splits.values() for number in numbers]


def _data_set(spec: DataSetSpec) -> DataSet:
    classes = _classes(spec)
    return DataSet(
        spec.name,
        classes=len(classes),
        images=sum(spec.images[number] for number in classes),
        splits=tuple((split, len(numbers)) for split, numbers in spec.splits.items()),
    )


def _missing(spec: DataSetSpec) -> list[str]:
    """Name the class files that are missing or empty."""
    files = [spec.class_file(n) for n in _classes(spec)]
    absent = [path for path in files if not path.is_file() or path.stat().st_size == 0]
    if not absent:
        return []
    names = ", ".join(path.name for path in absent[:_NAMED])
    more = f" and {len(absent) - _NAMED} more" if len(absent) > _NAMED else ""
    return [f"{spec.folder}: {names}{more} missing or empty. Convert or copy the data set again."]


def _damaged(spec: DataSetSpec) -> list[str]:
    """Name the class files that are damaged, or do not hold the specified number of records."""
    if _large(spec):
        return []
    messages: dict[str, None] = {}  # a missing package gives the same message for each file
    for number in _classes(spec):
        try:
            open_class(spec, number)
        except FewshotError as error:
            messages[str(error)] = None
    problems = list(messages)
    more = len(problems) - _NAMED
    if more > 0:
        problems[_NAMED:] = [f"{spec.folder}: {more} more class files like this."]
    return problems
