"""What `data check` tells of a folder, whatever its format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DataSet:
    """One data set: an image folder, a source of Meta-Dataset, a VTAB task, a mode of ORBIT."""

    name: str
    classes: int
    """Over all splits."""
    images: int
    splits: tuple[tuple[str, int], ...] = ()
    """Name and images of each split (or classes, where a format splits by class: see `notes`)."""
    sizes: tuple[tuple[int, int], tuple[int, int]] | None = None
    """(width, height) of the smallest and of the largest image looked at, if any was."""


@dataclass(frozen=True)
class Summary:
    """The contents of a folder."""

    format: str
    """As people call it: "image folder", "Meta-Dataset", "VTAB-v2", "ORBIT"."""
    root: Path
    data_sets: tuple[DataSet, ...]
    problems: tuple[str, ...] = ()
    """Faults that keep (part of) it from being used: a sentence each, with file and remedy."""
    notes: tuple[str, ...] = ()
    """Facts that are good to know and no faults."""
