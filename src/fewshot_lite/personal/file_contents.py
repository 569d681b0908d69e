"""The contents of a personal model's file besides the network and the head, checked; in NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fewshot_lite.core import tensor_files
from fewshot_lite.core.errors import UsageError
from fewshot_lite.core.files import DEFAULT_PERSONAL
from fewshot_lite.images.thumbnails import unpacked


@dataclass(frozen=True)
class Contents:
    """N support photos of K classes, in V views with features of width d, and who says so."""

    class_names: tuple[str, ...]
    """K names."""
    image_size: int
    """Side of the images in pixels."""
    provenance: dict[str, Any]
    photos: tuple[str, ...]
    """N names, or none."""
    features: npt.NDArray[np.float32]
    """(N, V, d)"""
    labels: npt.NDArray[np.int64]
    """(N,)"""
    support_strangeness: npt.NDArray[np.float32] | None
    """(N,), how strange each photo is to the others; NaN for a class's only photo."""
    leave_one_out_logits: npt.NDArray[np.float32] | None
    """(N, K), of models adapted by gradient; NaN likewise."""
    thumbnails: tuple[bytes, ...]
    """N, or none."""
    groups: npt.NDArray[np.int64] | None
    """(N,), what is left out together: one number for the frames of a clip; None without clips."""
    digests: npt.NDArray[np.int64] | None
    """(N,), by which the photos are known again; None in files of before."""


def check_there(path: Path) -> None:
    """Say how a personal model is made where the one of no name is not there.

    Raises:
        UsageError: it is not.
    """
    if path == DEFAULT_PERSONAL and not path.exists():
        raise UsageError(
            f"There is no {path} here. Make one with `fewshot-lite adapt FOLDER`, or name "
            "yours with --model."
        )


def check_contents(
    meta: dict[str, Any], tensors: Mapping[str, npt.NDArray[Any]], width: int
) -> Contents:
    """The contents of a file, if they belong together.

    Args:
        meta: its description.
        tensors: those whose names begin with "support.".
        width: d, of the network's features.

    Raises:
        one of `core.errors.DAMAGE`: they do not.
    """
    names = meta["class_names"]
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise ValueError("class_names is no list of names")
    if not isinstance(meta["provenance"], dict):
        raise ValueError("provenance is no object")
    features, labels = tensors["support.features"], tensors["support.labels"]
    _check_support(features, labels, len(names), width)
    photos = meta.get("photos", [])
    if not all(isinstance(photo, str) for photo in photos) or len(photos) not in (0, len(labels)):
        raise ValueError("photos do not fit support.labels")
    groups = _numbers(tensors, "support.groups", len(labels))
    known = _groups_per_class(labels, groups)[labels] > 1
    support_strangeness = tensors.get("support.left_out")
    if support_strangeness is not None:
        _check_like("support.left_out", support_strangeness, known)
    logits = tensors.get("support.left_out_logits")
    if logits is not None:
        _check_like("support.left_out_logits", logits, np.repeat(known[:, None], len(names), 1))
    return Contents(
        tuple(names),
        tensor_files.image_size(meta),
        meta["provenance"],
        tuple(photos),
        features,
        labels,
        support_strangeness,
        logits,
        _thumbnails(tensors, len(labels)),
        groups,
        _numbers(tensors, "support.digests", len(labels)),
    )


def _numbers(
    tensors: Mapping[str, npt.NDArray[Any]], name: str, number: int
) -> npt.NDArray[np.int64] | None:
    """Whole numbers (N,) of the photos, if the file has them; ValueError if they do not fit."""
    values = tensors.get(name)
    if values is not None and (values.dtype != np.int64 or values.shape != (number,)):
        raise ValueError(f"{name} does not fit support.labels")
    return values


def _groups_per_class(
    labels: npt.NDArray[np.int64], groups: npt.NDArray[np.int64] | None
) -> npt.NDArray[np.int64]:
    """Photos of each class, frames of one clip counted once; ValueError for one in two classes."""
    if groups is None:
        return np.bincount(labels)
    label_of = dict(zip(groups.tolist(), labels.tolist(), strict=True))
    if [label_of[group] for group in groups.tolist()] != labels.tolist():
        raise ValueError("support.groups do not fit support.labels")
    return np.bincount(list(label_of.values()))


def _check_support(
    features: npt.NDArray[Any], labels: npt.NDArray[Any], classes: int, width: int
) -> None:
    """ValueError if they are not the features and labels of every class's photos."""
    if labels.dtype != np.int64 or labels.ndim != 1 or set(labels.tolist()) != set(range(classes)):
        raise ValueError("support.labels do not fit the class names")
    whole = features.ndim == 3 and features.shape[::2] == (len(labels), width)
    if features.dtype != np.float32 or not whole or features.shape[1] < 1:
        raise ValueError("support.features has another shape or type")
    if not np.isfinite(features).all():
        raise ValueError("support.features are not finite")


def _check_like(name: str, values: npt.NDArray[Any], known: npt.NDArray[np.bool_]) -> None:
    """ValueError if values have another shape or type, or are finite where none is known."""
    if values.dtype != np.float32 or values.shape != known.shape:
        raise ValueError(f"{name} has another shape or type")
    if not np.array_equal(np.isfinite(values), known):
        raise ValueError(f"{name} is not finite")


def _thumbnails(tensors: Mapping[str, npt.NDArray[Any]], number: int) -> tuple[bytes, ...]:
    """The support photos' thumbnails, if the file has any; ValueError if they do not fit."""
    if "support.thumbnails" not in tensors:
        return ()
    joined, sizes = tensors["support.thumbnails"], tensors["support.thumbnail_sizes"]
    if joined.dtype != np.uint8 or joined.ndim != 1:
        raise ValueError("support.thumbnails has another shape or type")
    if sizes.dtype != np.int64 or sizes.shape != (number,):
        raise ValueError("support.thumbnail_sizes do not fit support.labels")
    return unpacked(joined, sizes.tolist())
