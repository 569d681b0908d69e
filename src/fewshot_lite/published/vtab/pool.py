"""The interface of readers: labels of all images at once, and the images that are drawn."""

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
    """A split. Sources are made only for the images that are drawn: dSprites has 737,280."""

    labels: Rows
    """The class of each image, int64 (M,)."""
    load: Callable[[Rows], Sequence[Source]] = field(repr=False)
    """Returns the images of given rows, in their order."""
    rows: Rows = field(repr=False)
    """The row of each image for `load`, int64 (M,)."""
    size: tuple[int, int] | None = None
    """(width, height), if all images have the same."""

    def __len__(self) -> int:
        return len(self.labels)

    def sources(self, positions: Rows) -> tuple[Source, ...]:
        """Return the images at positions 0..M-1."""
        return tuple(self.load(self.rows[positions]))

    def subset(self, positions: Rows) -> VtabImages:
        """Return the part of the split at positions 0..M-1."""
        return replace(self, labels=self.labels[positions], rows=self.rows[positions])


@dataclass(frozen=True)
class Splits:
    """The images of one task."""

    class_names: tuple[str, ...]
    train: VtabImages
    """The images to draw the support set from."""
    test: VtabImages
    val: VtabImages | None = None
    """Separate validation images, from which a fifth of the support set is drawn."""
    notes: tuple[str, ...] = ()
    """Reasons why results may differ from published ones."""


def pool(
    labels: npt.ArrayLike,
    load: Callable[[Rows], Sequence[Source]],
    size: tuple[int, int] | None = None,
) -> VtabImages:
    """Make a split whose rows are 0..M-1."""
    array = np.asarray(labels, dtype=np.int64)
    return VtabImages(array, load, np.arange(len(array), dtype=np.int64), size)


def file_pool(paths: Sequence[Path], labels: npt.ArrayLike) -> VtabImages:
    """Make a split of image files, which are not cropped."""
    return pool(labels, lambda rows: [WholeImage(paths[row]) for row in rows])


def shuffled(number: int) -> Rows:
    """Return 0..number-1 in a fixed random order, for sets without published splits.

    RandomState is used because its stream, unlike those of other generators, is frozen for ever.
    """
    return np.random.RandomState(0).permutation(number).astype(np.int64)


def cut(images: VtabImages, test_percent: int) -> tuple[VtabImages, VtabImages]:
    """Split a set at random into training and test images."""
    order = shuffled(len(images))
    first_test = len(order) * (100 - test_percent) // 100
    return images.subset(order[:first_test]), images.subset(order[first_test:])


#: The note on sets that `cut` splits for want of published splits.
CUT = (
    "the publishers give no splits and those of TensorFlow Datasets cannot be had without it, so "
    "a fixed random cut of the same size is used"
)
