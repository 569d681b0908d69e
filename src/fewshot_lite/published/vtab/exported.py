"""Two layouts for any task: lists of images, and class folders.

VTAB-1k is distributed as plain images with lists (`vtab-1k/<task>/train800val200.txt`, `test.txt`:
lines of a path within the task's folder and a label) in the order of TensorFlow Datasets, and so
with the very 1,000 images of the paper. Class folders are a simple format to export a task to.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fewshot_lite.core.errors import FewshotError
from fewshot_lite.images.folders import scan_classes
from fewshot_lite.published.vtab.errors import reading
from fewshot_lite.published.vtab.pool import Splits, VtabImages, file_pool

#: The files of the first layout.
LISTS = ("train800val200.txt", "test.txt")
#: The folders of the second; `val` may be there too.
FOLDERS = ("train", "test")


def from_lists(folder: Path, classes: int) -> Splits:
    """Read lists with lines such as `images/train800val200/000000.jpg 3`."""
    train, test = (_read_list(folder / name, classes) for name in LISTS)
    return Splits(tuple(str(label) for label in range(classes)), train, test)


def _read_list(listing: Path, classes: int) -> VtabImages:
    paths: list[Path] = []
    labels: list[int] = []
    with reading(listing):
        for number, line in enumerate(listing.read_text(encoding="utf-8").splitlines(), start=1):
            if not line.strip():
                continue
            path, _, label = line.rpartition(" ")
            if not path or not label.isdecimal() or int(label) >= classes:
                raise FewshotError(
                    f"{listing}, line {number}: {line[:80]!r} is not a path and a label from 0 to "
                    f"{classes - 1}. Fetch the list again."
                )
            paths.append(listing.parent / path)
            labels.append(int(label))
    return file_pool(paths, labels)


def from_class_folders(folder: Path) -> Splits:
    """Read `train/<class>/*`, `test/<class>/*` and, if present, `val/<class>/*`."""
    train = scan_classes(folder / "train")
    number = {name: label for label, name in enumerate(train.class_names)}

    def read(split: str) -> VtabImages:
        data = scan_classes(folder / split)
        for name in data.class_names:
            if name not in number:
                raise FewshotError(
                    f"{folder / split / name}: this class is not in {folder / 'train'}. The class "
                    "folders of all splits must have the same names."
                )
        labels = [number[data.class_names[label]] for label in data.labels]
        return file_pool(data.paths, np.array(labels, dtype=np.int64))

    val = read("val") if (folder / "val").is_dir() else None
    return Splits(train.class_names, file_pool(train.paths, train.labels), read("test"), val)
