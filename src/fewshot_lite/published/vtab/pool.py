"""The interface of readers: labels of all images at once, and images for those drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fewshot_lite.images.photo import Source
from fewshot_lite.published.vtab.stored import WholeImage

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class VtabImages:
    """A split. Sources are made for the images asked for only: dSprites has 737,280."""

    labels: Rows
    """Class of each image, int64 (M,)."""
    load: Callable[[Rows], Sequence[Source]] = field(repr=False)
    """Images of the rows that it is given, in their order."""
    rows: Rows = field(repr=False)
    """The key by which `load` knows each image, int64 (M,)."""
    size: tuple[int, int] | None = None
    """(width, height), where all images have the same."""

    def __len__(self) -> int:
        return len(self.labels)

    def sources(self, positions: Rows) -> tuple[Source, ...]:
        """The images at these positions, 0..M-1."""
        return tuple(self.load(self.rows[positions]))

    def subset(self, positions: Rows) -> VtabImages:
        """The same images, these alone."""
        return replace(self, labels=self.labels[positions], rows=self.rows[positions])


@dataclass(frozen=True)
class Splits:
    """The images of one task."""

    class_names: tuple[str, ...]
    train: VtabImages
    """The images that the support set is drawn from; all training images where `val` is none."""
    test: VtabImages
    val: VtabImages | None = None
    """Validation images from elsewhere than `train`: a fifth of the support set."""
    notes: tuple[str, ...] = ()
    """Reasons why results may differ from the published ones."""


def pool(
    labels: npt.ArrayLike,
    load: Callable[[Rows], Sequence[Source]],
    size: tuple[int, int] | None = None,
) -> VtabImages:
    """A pool whose rows are 0..M-1."""
    array = np.asarray(labels, dtype=np.int64)
    return VtabImages(array, load, np.arange(len(array), dtype=np.int64), size)


def file_pool(paths: Sequence[Path], labels: npt.ArrayLike) -> VtabImages:
    """A pool of image files, each used whole."""
    return pool(labels, lambda rows: [WholeImage(paths[row]) for row in rows])


def shuffled(number: int) -> Rows:
    """0..number-1 in an order that never changes, for sets without published splits.

    RandomState: unlike other generators of numpy and torch, its stream is frozen for ever.
    """
    return np.random.RandomState(0).permutation(number).astype(np.int64)


def cut(images: VtabImages, test_percent: int) -> tuple[VtabImages, VtabImages]:
    """Training and test images of a set without splits."""
    order = shuffled(len(images))
    first_test = len(order) * (100 - test_percent) // 100
    return images.subset(order[:first_test]), images.subset(order[first_test:])


#: Said of every set that `cut` divides.
CUT = (
    "the publishers give no splits and those of TensorFlow Datasets cannot be had without it, so "
    "a fixed random cut of the same size is used"
)
