"""Named streams of random numbers, so that no two uses of one seed draw the same ones."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from enum import IntEnum, unique
from typing import TypeVar

import torch

_T = TypeVar("_T")


@unique
class Stream(IntEnum):
    """The uses of random numbers; the values are part of what a seed means."""

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
    """A CPU generator for one use of a seed, e.g. `generator(seed, Stream.TRAINING_TASKS, 17)`.

    Torch seeds a generator well from one 64-bit number only; a hash mixes several into one.
    """
    digest = hashlib.sha256(repr((seed, int(stream), *numbers)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def integer(low: int, high: int, random: torch.Generator) -> int:
    """A whole number between two that can be drawn as well."""
    return int(torch.randint(low, high + 1, (), generator=random))


def shuffled(items: Sequence[_T], random: torch.Generator, most: int | None = None) -> list[_T]:
    """Items in a random order; the first of them alone if there is a `most`."""
    return [items[i] for i in torch.randperm(len(items), generator=random)[:most].tolist()]
