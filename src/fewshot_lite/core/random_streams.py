"""Named random streams: each use of a seed draws from a generator of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from enum import IntEnum, unique
from typing import TypeVar

import torch

_T = TypeVar("_T")


@unique
class Stream(IntEnum):
    """The uses of random numbers. Changing a value changes the results of every seed."""

    PRETRAIN_ORDER = 0
    """The order of the images in an epoch, by epoch."""
    PRETRAIN_VIEWS = 1
    """Image size, crops, flips and colours of a step of pre-training, by step."""
    TRAINING_TASKS = 2
    """Classes, images and augmentation of a training task, by task."""
    BACK_PROPAGATED = 3
    """Which H support images LITE back-propagates, by task."""
    FOLDER_TASKS = 4
    """Classes and images of a task for evaluation or validation, by task."""
    ORBIT_TASKS = 5
    """Frames of a task of ORBIT, by task."""
    FOLDER_SHAPES = 6
    """Way and shot of a task for evaluation, by task."""
    META_DATASET_TASKS = 7
    """Composition of a task of Meta-Dataset, by data set and task."""
    INSTANCE_TASKS = 8
    """Whether a training task's classes are single images, and such tasks, by task."""
    TRAINING_REPLACEMENTS = 9
    """The images that replace unreadable ones of a training task, by task."""
    VALIDATION_REPLACEMENTS = 10
    """The images that replace unreadable ones of a validation task, by its support images."""
    VTAB_IMAGES = 11
    """The order of the images of a VTAB task, by task and split."""
    REFINEMENT_ROWS = 12
    """The order of the support rows in the steps of `adapt --refine`."""
    TUNING_VIEWS = 14
    """Crops, flips and colours of the views that tuning sees, by image."""
    TUNING_BATCHES = 15
    """Data sets, images and views of a step of tuning, by step."""


def generator(seed: int, stream: Stream, *numbers: int) -> torch.Generator:
    """Return a CPU generator, e.g. `generator(seed, Stream.TRAINING_TASKS, 17)`.

    The arguments are hashed into the one 64-bit number that torch takes as a seed.
    """
    digest = hashlib.sha256(repr((seed, int(stream), *numbers)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def integer(low: int, high: int, random: torch.Generator) -> int:
    """Draw an integer from low..high, both included."""
    return int(torch.randint(low, high + 1, (), generator=random))


def shuffled(items: Sequence[_T], random: torch.Generator, most: int | None = None) -> list[_T]:
    """Return items in random order, at most `most` of them."""
    return [items[i] for i in torch.randperm(len(items), generator=random)[:most].tolist()]
