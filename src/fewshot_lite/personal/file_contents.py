"""The contents of a personal model's file besides network and head: checked and written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fewshot_lite import __version__
from fewshot_lite.core import tensor_files
from fewshot_lite.core.errors import UsageError
from fewshot_lite.core.files import DEFAULT_PERSONAL
from fewshot_lite.heads.array_head import DescribedHead
from fewshot_lite.heads.groups import groups_per_class
from fewshot_lite.heads.in_numpy import Array
from fewshot_lite.images.thumbnails import packed, unpacked


@dataclass(frozen=True)
class Contents:
    """N support photos of K classes: features of width d in V views, names and provenance."""

    class_names: tuple[str, ...]
    """K names."""
    image_size: int
    """Side of the images in pixels."""
    provenance: dict[str, Any]
    """JSON-able record of base, version and date."""
    features: Array
    """float32 (N, V, d) of each view of a photo, the first as it is; see `personal.views`."""
    labels: npt.NDArray[np.int64]
    """(N,) of 0..K-1, every class present."""
    photos: tuple[str, ...] = ()
    """N names, relative to the folder they were in, or none."""
    support_strangeness: npt.NDArray[np.float32] | None = None
    """(N,), leave-one-out novelty scores; NaN for a class's only photo."""
    leave_one_out_logits: npt.NDArray[np.float32] | None = None
    """(N, K), of a model adapted by gradient, from models adapted without the photo; NaN
    likewise."""
    thumbnails: tuple[bytes, ...] = ()
    """N small JPEGs for reports (`images.thumbnails`), or none."""
    groups: npt.NDArray[np.int64] | None = None
    """(N,), equal for frames of one clip, which are left out together (`heads.groups`); None
    without clips."""
    digests: npt.NDArray[np.int64] | None = None
    """(N,), by which `classify` recognises the photos (`images.decoding.digest_of`); None in older
    files."""

    @property
    def together(self) -> Array:
        """The groups, int64 (N,); without them a number for each photo."""
        return np.arange(len(self.labels)) if self.groups is None else self.groups

    @property
    def clips(self) -> bool:
        """Whether some of the photos are frames of one clip."""
        return len(set(self.together.tolist())) < len(self.labels)

    def rows(self) -> tuple[Array, Array, Array]:
        """Return the rows that the head is fitted to: features (N V, d), labels, photos (N V,)."""
        number, views, width = self.features.shape
        rows = self.features.reshape(number * views, width)
        return rows, self.labels.repeat(views), np.arange(number).repeat(views)


def check_there(path: Path) -> None:
    """Raise a UsageError that says how to make a personal model if the default file is missing."""
    if path == DEFAULT_PERSONAL and not os.path.lexists(path):
        raise UsageError(
            f"There is no {path} here. Make one with `fewshot-lite adapt FOLDER`, or name "
            "yours with --model."
        )


def check_contents(
    meta: dict[str, Any], tensors: Mapping[str, npt.NDArray[Any]], width: int
) -> Contents:
    """Return the contents of a file, if they are consistent.

    Args:
        meta: the file's description.
        tensors: those whose names begin with "support.".
        width: d, of the network's features.

    Raises:
        one of `core.errors.DAMAGE`: they are not.
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
    _check_groups(groups, labels)
    known = groups_per_class(labels, len(names), groups)[labels] > 1
    support_strangeness = tensors.get("support.left_out")
    if support_strangeness is not None:
        _check_like("support.left_out", support_strangeness, known)
    logits = tensors.get("support.left_out_logits")
    if logits is not None:
        _check_like("support.left_out_logits", logits, np.repeat(known[:, None], len(names), 1))
    if (logits is not None or meta["head"]["name"] == "adapted") and (
        logits is None or support_strangeness is None
    ):
        raise ValueError(
            "support.left_out_logits: needed by an adapted head, and go with support.left_out"
        )
    return Contents(
        tuple(names),
        tensor_files.image_size(meta),
        meta["provenance"],
        features,
        labels,
        tuple(photos),
        support_strangeness,
        logits,
        _thumbnails(tensors, len(labels)),
        groups,
        _numbers(tensors, "support.digests", len(labels)),
    )


def _numbers(
    tensors: Mapping[str, npt.NDArray[Any]], name: str, number: int
) -> npt.NDArray[np.int64] | None:
    """Return int64 (N,) if the file has them; ValueError if they do not fit the photos."""
    values = tensors.get(name)
    if values is not None and (values.dtype != np.int64 or values.shape != (number,)):
        raise ValueError(f"{name} does not fit support.labels")
    return values


def _check_groups(groups: npt.NDArray[np.int64] | None, labels: npt.NDArray[np.int64]) -> None:
    """Raise a ValueError for a group in two classes."""
    if groups is not None:
        label_of = dict(zip(groups.tolist(), labels.tolist(), strict=True))
        if [label_of[group] for group in groups.tolist()] != labels.tolist():
            raise ValueError("support.groups do not fit support.labels")


def _check_support(
    features: npt.NDArray[Any], labels: npt.NDArray[Any], classes: int, width: int
) -> None:
    """Raise a ValueError unless these are features and labels of photos of all classes."""
    if labels.dtype != np.int64 or labels.ndim != 1 or set(labels.tolist()) != set(range(classes)):
        raise ValueError("support.labels do not fit the class names")
    whole = features.ndim == 3 and features.shape[::2] == (len(labels), width)
    if features.dtype != np.float32 or not whole or features.shape[1] < 1:
        raise ValueError("support.features has another shape or type")
    if not np.isfinite(features).all():
        raise ValueError("support.features are not finite")


def _check_like(name: str, values: npt.NDArray[Any], known: npt.NDArray[np.bool_]) -> None:
    """Raise a ValueError unless values are float32, and finite exactly where `known` is True."""
    if values.dtype != np.float32 or values.shape != known.shape:
        raise ValueError(f"{name} has another shape or type")
    if not np.array_equal(np.isfinite(values), known):
        raise ValueError(f"{name} is not finite")


def _thumbnails(tensors: Mapping[str, npt.NDArray[Any]], number: int) -> tuple[bytes, ...]:
    """Return the thumbnails, if the file has any; ValueError if they do not fit the photos."""
    if "support.thumbnails" not in tensors:
        return ()
    joined, sizes = tensors["support.thumbnails"], tensors["support.thumbnail_sizes"]
    if joined.dtype != np.uint8 or joined.ndim != 1:
        raise ValueError("support.thumbnails has another shape or type")
    if sizes.dtype != np.int64 or sizes.shape != (number,):
        raise ValueError("support.thumbnail_sizes do not fit support.labels")
    return unpacked(joined, sizes.tolist())


def write_personal(
    path: Path,
    backbone: Mapping[str, Any],
    network: Mapping[str, Array],
    head: DescribedHead,
    contents: Contents,
    *,
    replaces: str | None = None,
    force: bool,
) -> None:
    """Write a personal model, whole or not at all.

    Args:
        path: the file to write.
        backbone: as `networks.backbone.describe_backbone` gives it.
        network: the state of the network.
        head: the head.
        contents: the rest.
        replaces: the hash of the file that it replaces, whose backup `personal.undo` keeps.
        force: overwrite a file that is at `path` when the writing ends.

    Raises:
        FewshotError: it cannot be written.
    """
    tensors = {f"network.{name}": _narrow(value) for name, value in network.items()}
    tensors |= {f"head.{name}": value for name, value in head.tensors.items()}
    tensors |= {"support.features": contents.features, "support.labels": contents.labels}
    if contents.support_strangeness is not None:
        tensors["support.left_out"] = contents.support_strangeness
    if contents.leave_one_out_logits is not None:
        tensors["support.left_out_logits"] = contents.leave_one_out_logits
    if contents.clips:
        tensors["support.groups"] = contents.together
    if contents.digests is not None:
        tensors["support.digests"] = contents.digests
    if contents.thumbnails:
        joined, sizes = packed(contents.thumbnails)
        tensors |= {"support.thumbnails": joined, "support.thumbnail_sizes": sizes}
    meta = {
        "version": __version__,
        **backbone,
        "head": dict(head.description),
        "class_names": list(contents.class_names),
        "shots": np.bincount(contents.labels, minlength=len(contents.class_names)).tolist(),
        "photos": list(contents.photos),
        "thumbnails": sum(map(bool, contents.thumbnails)),
        "provenance": contents.provenance,
        "replaces": replaces,
    }
    tensor_files.write(path, "personal", tensors, meta, force=force)


def _narrow(values: Array) -> Array:
    """Convert to half precision if that is exact, as for weights that a base stored in half."""
    if values.dtype != np.float32 or values.ndim < 2:
        return values
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    return half if np.array_equal(half.astype(np.float32), values) else values
