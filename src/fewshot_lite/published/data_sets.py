"""The data sets in a folder of any format, for training and validation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from fewshot_lite.images.folders import LabelledImages, require_folder, scan_collection
from fewshot_lite.published.meta_dataset.reader import is_meta_dataset, scan_meta_dataset
from fewshot_lite.published.meta_dataset.spec import SPLIT_NAMES
from fewshot_lite.published.orbit.folders import scan_orbit
from fewshot_lite.published.orbit.layout import find_orbit


def scan_data_sets(
    folder: Path, split: Literal["train", "validation"] = "train"
) -> Sequence[LabelledImages]:
    """Return the data sets of an image folder, a collection of them, Meta-Dataset or ORBIT.

    Args:
        folder: any of these; each user of ORBIT is a data set.
        split: the split of Meta-Dataset or ORBIT; image folders have none.

    Raises:
        UsageError, FewshotError: as `scan_collection`, `scan_meta_dataset` and `scan_orbit`.
    """
    if is_meta_dataset(require_folder(folder)):
        return scan_meta_dataset(folder, SPLIT_NAMES[split])
    if find_orbit(folder):
        return scan_orbit(folder, split)
    return scan_collection(folder)


def has_validation_sets(folder: Path) -> bool:
    """Return whether the folder has a split for validation."""
    if is_meta_dataset(folder):
        return True
    # A folder of validation users alone may be trained on.
    return {"train", "validation"} <= find_orbit(folder).keys()
