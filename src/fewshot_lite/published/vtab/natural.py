"""Readers of the natural tasks: photos of things and places."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fewshot_lite.core.errors import FewshotError
from fewshot_lite.images.folders import scan_classes
from fewshot_lite.published.vtab.errors import need_extra, reading
from fewshot_lite.published.vtab.pool import (
    CUT,
    Rows,
    Splits,
    VtabImages,
    cut,
    file_pool,
    pool,
    shuffled,
)
from fewshot_lite.published.vtab.stored import RecordImage, RowImage

_CALTECH_SHOTS = 30
_CIFAR_RECORD = 2 + 3 * 32 * 32


def caltech101(folder: Path) -> Splits:
    """Draw 30 random training images a class; all others are for the test (TensorFlow Datasets)."""
    data = scan_classes(folder / "101_ObjectCategories", "caltech101")
    train: list[int] = []
    test: list[int] = []
    for indices in data.indices_by_class():
        order = [indices[i] for i in shuffled(len(indices))]
        train += order[:_CALTECH_SHOTS]
        test += order[_CALTECH_SHOTS:]
    images = file_pool(data.paths, data.labels)
    return Splits(
        data.class_names,
        images.subset(np.array(train, dtype=np.int64)),
        images.subset(np.array(test, dtype=np.int64)),
        notes=(
            "the 30 training images of each class are drawn at random, as published, but "
            "TensorFlow Datasets draws others",
        ),
    )


def cifar100(folder: Path) -> Splits:
    """Read the binary version: records of coarse label, fine label and three planes of 32 x 32."""
    listing = folder / "fine_label_names.txt"
    with reading(listing):
        names = listing.read_text(encoding="utf-8").split()
    return Splits(
        tuple(names),
        _cifar_file(folder / "train.bin", len(names)),
        _cifar_file(folder / "test.bin", len(names)),
    )


def _cifar_file(path: Path, classes: int) -> VtabImages:
    with reading(path):
        records = np.memmap(path, np.uint8, mode="r")
        if len(records) % _CIFAR_RECORD:
            raise ValueError(f"{len(records):,} bytes are no whole number of records")
        labels = records.reshape(-1, _CIFAR_RECORD)[:, 1].astype(np.int64)
        if labels.max() >= classes:
            raise ValueError(f"label {labels.max()} of {classes} classes")

    def load(rows: Rows) -> list[RecordImage]:
        return [RecordImage(path, int(row) * _CIFAR_RECORD + 2, (3, 32, 32)) for row in rows]

    return pool(labels, load, (32, 32))


def flowers102(folder: Path) -> Splits:
    """Read `setid.mat`, the numbers of the images of each split, and `imagelabels.mat`."""
    io = need_extra("scipy.io")
    with reading(folder / "imagelabels.mat"):
        labels = io.loadmat(folder / "imagelabels.mat")["labels"].ravel().astype(np.int64) - 1
    with reading(folder / "setid.mat"):
        ids = io.loadmat(folder / "setid.mat")
        numbers = [ids[key].ravel().astype(np.int64) - 1 for key in ("trnid", "valid", "tstid")]
        paths = [folder / "jpg" / f"image_{number:05d}.jpg" for number in range(1, len(labels) + 1)]
        images = file_pool(paths, labels)
        train, val, test = (images.subset(positions) for positions in numbers)
    names = tuple(f"flower {k + 1}" for k in range(int(labels.max()) + 1))
    return Splits(names, train, test, val)


def pets(folder: Path) -> Splits:
    """Read `annotations/trainval.txt` and `test.txt`: image, class from 1, species, breed."""
    names: dict[int, str] = {}
    pools = []
    for split in ("trainval", "test"):
        path = folder / "annotations" / f"{split}.txt"
        labels, paths = [], []
        with reading(path):
            for line in path.read_text(encoding="utf-8").splitlines():
                if not line.strip() or line.startswith("#"):
                    continue
                image, label = line.split()[:2]
                names[int(label) - 1] = image.rpartition("_")[0]
                labels.append(int(label) - 1)
                paths.append(folder / "images" / f"{image}.jpg")
        pools.append(file_pool(paths, labels))
    class_names = tuple(names.get(k, f"class {k + 1}") for k in range(max(names, default=-1) + 1))
    train, test = pools
    return Splits(class_names, train, test)


def sun397(folder: Path) -> Splits:
    """Read the photos in the folders that `ClassName.txt` lists (/a/abbey and so on).

    They are split at random into 80 % training and 20 % test images, with the shares of TensorFlow
    Datasets (70 + 10, 20).
    """
    listing = folder / "ClassName.txt"
    with reading(listing):
        names = [line.strip() for line in listing.read_text(encoding="utf-8").splitlines()]
        names = [name for name in names if name]
    labels: list[int] = []
    paths: list[Path] = []
    for label, name in enumerate(names):
        photos = sorted((folder / name.lstrip("/")).glob("sun_*.jpg"))
        if not photos:
            raise FewshotError(
                f"{folder}: no photos sun_*.jpg in {name.lstrip('/')}, which ClassName.txt lists. "
                "Unpack SUN397.tar.gz again."
            )
        paths += photos
        labels += [label] * len(photos)
    train, test = cut(file_pool(paths, labels), test_percent=20)
    class_names = tuple(name.lstrip("/").partition("/")[2] or name for name in names)
    return Splits(class_names, train, test, notes=(CUT,))


def svhn(folder: Path) -> Splits:
    """Read MATLAB files: X uint8 (32, 32, 3, M), y (M, 1) from 1 to 10; 10 is the digit 0."""
    train, test = (_svhn_file(folder / f"{split}_32x32.mat") for split in ("train", "test"))
    return Splits(tuple("0123456789"), train, test)


def _svhn_file(path: Path) -> VtabImages:
    io = need_extra("scipy.io")
    with reading(path):
        labels = io.loadmat(path, variable_names=["y"])["y"].ravel().astype(np.int64) % 10

    def load(rows: Rows) -> list[RowImage]:
        with reading(path):
            pixels = io.loadmat(path, variable_names=["X"])["X"][..., rows]
            array = np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
        return [RowImage(path, int(row), place, array) for place, row in enumerate(rows)]

    return pool(labels, load, (32, 32))
