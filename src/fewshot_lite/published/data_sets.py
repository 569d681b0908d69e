"""The data sets in a folder, whichever format it is in, for training and for validation."""

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
    """An image folder or a collection of them, Meta-Dataset, or ORBIT with one data set a user.

    Args:
        folder: any of these.
        split: classes of Meta-Dataset and users of ORBIT to take; image folders have no splits.

    Raises:
        UsageError, FewshotError: as `scan_collection`, `scan_meta_dataset` and `scan_orbit`.
    """
    if is_meta_dataset(require_folder(folder)):
        return scan_meta_dataset(folder, SPLIT_NAMES[split])
    if find_orbit(folder):
        return scan_orbit(folder, split)
    return scan_collection(folder)


def has_validation_sets(folder: Path) -> bool:
    """True if the format keeps classes or users apart for validation, and they are there."""
    if is_meta_dataset(folder):
        return True
    # A folder of validation users alone is no less what is to be trained on, if one says so.
    return {"train", "validation"} <= find_orbit(folder).keys()
