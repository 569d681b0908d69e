"""The summary of a folder that `data check` prints, whatever its format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DataSet:
    """One data set: an image folder, a source of Meta-Dataset, a VTAB task, a mode of ORBIT."""

    name: str
    classes: int
    """The number of classes over all splits."""
    images: int
    splits: tuple[tuple[str, int], ...] = ()
    """Name and number of images of each split, or of classes if `notes` say so."""
    sizes: tuple[tuple[int, int], tuple[int, int]] | None = None
    """(width, height) of the smallest and of the largest image read; None if none was."""


@dataclass(frozen=True)
class Summary:
    """The contents of a folder."""

    format: str
    """ "image folder", "Meta-Dataset", "VTAB-v2" or "ORBIT"."""
    root: Path
    data_sets: tuple[DataSet, ...]
    problems: tuple[str, ...] = ()
    """Faults that prevent the use of all or part of it, a sentence each with file and remedy."""
    notes: tuple[str, ...] = ()
    """Remarks on properties that are no faults."""
