"""Readers of the specialized tasks: aerial and medical images."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from fewshot_lite.images.folders import scan_classes
from fewshot_lite.published.vtab.errors import need_extra, reading
from fewshot_lite.published.vtab.pool import CUT, Rows, Splits, VtabImages, cut, file_pool, pool
from fewshot_lite.published.vtab.stored import Hdf5Image


def camelyon(folder: Path) -> Splits:
    """Read PatchCamelyon's HDF5 files: x uint8 (M, 96, 96, 3), y (M, 1, 1, 1)."""
    train, val, test = (_camelyon_split(folder, split) for split in ("train", "valid", "test"))
    return Splits(("normal", "tumour"), train, test, val)


def _camelyon_split(folder: Path, split: str) -> VtabImages:
    images, targets = (folder / f"camelyonpatch_level_2_split_{split}_{c}.h5" for c in "xy")
    h5py = need_extra("h5py")
    with reading(targets), h5py.File(targets, "r") as file:
        labels = np.asarray(file["y"]).ravel().astype(np.int64)
    with reading(images), h5py.File(images, "r") as file:
        shape = file["x"].shape
        if len(shape) != 4 or shape[0] != len(labels):
            raise ValueError(f"images of shape {shape} for {len(labels):,} labels")

    def load(rows: Rows) -> list[Hdf5Image]:
        return [Hdf5Image(images, int(row)) for row in rows]

    return pool(labels, load, (shape[2], shape[1]))


def eurosat(folder: Path) -> Splits:
    """Read `2750/<class>/*.jpg`; 60 % + 20 % training and 20 % test images."""
    return _class_folders(folder / "2750")


def resisc45(folder: Path) -> Splits:
    """Read `<class>/*.jpg`; 60 % + 20 % training and 20 % test images."""
    return _class_folders(folder)


def _class_folders(folder: Path) -> Splits:
    data = scan_classes(folder)
    train, test = cut(file_pool(data.paths, data.labels), test_percent=20)
    return Splits(data.class_names, train, test, notes=(CUT,))


def retinopathy(folder: Path) -> Splits:
    """Read Kaggle's photos; validation is its public test images, the test the private ones."""
    train = _graded(folder / "trainLabels.csv", folder / "train", None)
    val = _graded(folder / "retinopathy_solution.csv", folder / "test", "Public")
    test = _graded(folder / "retinopathy_solution.csv", folder / "test", "Private")
    names = ("none", "mild", "moderate", "severe", "proliferative")
    notes = (
        "photos are used as they are; VTAB normalises them first (btgraham-300), LITE's code does "
        "not",
    )
    return Splits(names, train, test, val, notes)


def _graded(listing: Path, folder: Path, usage: str | None) -> VtabImages:
    with reading(listing), listing.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if usage is None or row["Usage"] == usage]
        grades = [int(row["level"]) for row in rows]
        if not all(0 <= grade <= 4 for grade in grades):
            raise ValueError("a level that is not 0 to 4")
        paths = [folder / f"{row['image']}.jpeg" for row in rows]
    return file_pool(paths, grades)
