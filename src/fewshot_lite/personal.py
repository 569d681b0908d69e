"""The personal model: a plain torchvision network, class statistics and names, in one file.

FiLM lies folded in the network's norm layers. Of the support set the file keeps the features and
labels, from which the head is fitted anew at load: N·d numbers; matrices would be d·d a class.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor

from fewshot_lite import __version__, checkpoint
from fewshot_lite.backbones import Backbone
from fewshot_lite.data.folders import Skipped
from fewshot_lite.data.prefetch import decoded_batches
from fewshot_lite.data.preflight import Finding
from fewshot_lite.data.thumbnails import packed, unpacked
from fewshot_lite.errors import FewshotError, UsageError
from fewshot_lite.files import DEFAULT_PERSONAL, check_output
from fewshot_lite.heads.adapted import AdaptedHead
from fewshot_lite.heads.leave_one_out import left_out_logits
from fewshot_lite.heads.registry import AnyHead, describe_head, make_head
from fewshot_lite.learners.base import map_batches
from fewshot_lite.prediction import Prediction
from fewshot_lite.strangers import StrangerDetector


@dataclass(frozen=True)
class Outputs:
    """What a personal model makes of images, as tensors."""

    probabilities: Tensor
    """float32 (B, K), among the classes."""
    strangeness: Tensor
    """float32 (B,): above `PersonalModel.strangers.threshold(reject)`, none of the classes."""


@dataclass(frozen=True)
class Adaptation:
    """What adapting used."""

    class_names: tuple[str, ...]
    used: tuple[int, ...]
    """Photos used of each class."""
    left_out: tuple[int, ...]
    """Files skipped in each class's folder."""
    skipped: tuple[Skipped, ...]
    """All that was skipped, and why."""
    seconds: float
    findings: tuple[Finding, ...] = ()
    """What is wrong with the folder, the files skipped among it; see `data.preflight`."""
    root: Path | None = None
    """The folder."""
    paths: tuple[Path, ...] = ()
    """The support photos' files, in the model's order."""


class PersonalModel:
    """A classifier of a person's own classes."""

    #: How this model came about; None in one that was loaded from a file.
    adaptation: Adaptation | None = None

    def __init__(
        self,
        backbone: Backbone,
        head: AnyHead,
        features: Tensor,
        labels: Tensor,
        class_names: tuple[str, ...],
        image_size: int,
        provenance: dict[str, Any],
        photos: tuple[str, ...] = (),
        left_out: Tensor | None = None,
        thumbnails: tuple[bytes, ...] = (),
        left_out_logits: Tensor | None = None,
    ) -> None:
        """Put together; use `MetaModel.adapt` or `PersonalModel.load`.

        Args:
            backbone: the adapted network.
            features: float32 (N, d) of the support images under it.
            labels: int64 (N,) of 0..K-1.
            class_names: K names.
            image_size: side of the images in pixels.
            provenance: JSON-able record of base, version and date.
            photos: N names of the support photos, relative to the folder they were in; empty if
                they are not known.
            left_out: float32 (N,), how strange the support images are to one another
                (`StrangerDetector.left_out`), if that is known already.
            thumbnails: N small JPEGs of the support photos for reports (`data.thumbnails`), or
                none.
            left_out_logits: float32 (N, K), what models adapted without them say of the support
                photos (`cross_adaptation`).

        Raises:
            ValueError: an adapted head without `left_out` and `left_out_logits`, which its features
                cannot tell; or another with the latter.
        """
        adapted = isinstance(head, AdaptedHead)
        if adapted != (left_out_logits is not None) or (adapted and left_out is None):
            raise ValueError("left_out_logits: go with an adapted head, and with left_out")
        self.backbone = backbone.eval().requires_grad_(False)
        self.head = head.requires_grad_(False)
        self.features = features
        self.labels = labels
        self.class_names = class_names
        self.image_size = image_size
        self.provenance = provenance
        self.photos = photos
        self.thumbnails = thumbnails
        self._statistics = self.head.fit(features, labels, len(class_names))
        self._left_out = left_out
        self._left_out_logits = left_out_logits

    @classmethod
    def load(cls, path: str | Path = DEFAULT_PERSONAL, *, device: str = "cpu") -> PersonalModel:
        """Read a personal model.

        Raises:
            UsageError: no such file, or a file of another kind.
            FewshotError: a damaged file.
        """
        path = Path(path)
        if path == DEFAULT_PERSONAL and not path.exists():
            raise UsageError(
                f"There is no {path} here. Make one with `fewshot-lite adapt FOLDER`, or name "
                "yours with --model."
            )
        file = checkpoint.load(path, "personal", flag="--model")
        meta, tensors = file.meta, file.tensors
        try:
            size = checkpoint.image_size(meta)
            backbone = Backbone(meta["backbone"], size, initialise=False)
            backbone.look_at(checkpoint.scales(meta))
            if "mean" in meta:
                backbone.standardise(meta["mean"], meta["std"])
            backbone.network.load_state_dict(_under("network.", tensors))
            head = make_head(meta["head"])
            head.load_state_dict(_under("head.", tensors))
            if not all(bool(v.isfinite().all()) for v in head.state_dict().values()):
                raise ValueError("head is not finite")
            names = meta["class_names"]
            if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
                raise ValueError("class_names is no list of names")
            features, labels = tensors["support.features"], tensors["support.labels"]
            if labels.dtype != torch.int64 or set(labels.tolist()) != set(range(len(names))):
                raise ValueError("support.labels do not fit the class names")
            shape = (len(labels), backbone.feature_dim)
            if features.dtype != torch.float32 or features.shape != shape:
                raise ValueError("support.features has another shape or type")
            if not bool(features.isfinite().all()):
                raise ValueError("support.features are not finite")
            photos = meta.get("photos", [])
            if not all(isinstance(photo, str) for photo in photos) or len(photos) not in (
                0,
                len(labels),
            ):
                raise ValueError("photos do not fit support.labels")
            left_out = tensors.get("support.left_out")
            if left_out is not None:
                shots = torch.bincount(labels)[labels]
                if left_out.dtype != torch.float32 or left_out.shape != labels.shape:
                    raise ValueError("support.left_out has another shape or type")
                if not torch.equal(left_out.isfinite(), shots > 1):
                    raise ValueError("support.left_out is not finite")
                left_out = left_out.to(device)
            logits = tensors.get("support.left_out_logits")
            if logits is not None:
                _check_left_out_logits(logits, labels, len(names))
                logits = logits.to(device)
            jpegs = _thumbnails(tensors, len(labels))
            return cls(
                backbone.to(device),
                head.to(device),
                features.to(device),
                labels.to(device),
                tuple(names),
                size,
                meta["provenance"],
                tuple(photos),
                left_out,
                jpegs,
                logits,
            )
        except DAMAGE as error:
            raise FewshotError(f"--model {path}: damaged ({what_is_damaged(error)}).") from None

    def save(
        self,
        path: str | Path = DEFAULT_PERSONAL,
        *,
        force: bool = False,
        thumbnails: bool = True,
    ) -> Path:
        """Write the model, whole or not at all.

        Args:
            path: where to.
            force: it may be there.
            thumbnails: with the small pictures of its photos, if it has any.

        Raises:
            UsageError: the file exists and `force` is not set, or its folder is not there.
        """
        path = Path(path)
        check_output(path, force=force)
        tensors = {
            f"network.{k}": _narrow(v) for k, v in self.backbone.network.state_dict().items()
        }
        tensors |= {f"head.{k}": v for k, v in self.head.state_dict().items()}
        tensors |= {
            "support.features": self.features,
            "support.labels": self.labels,
            "support.left_out": self.strangers.left_out,
        }
        if self._left_out_logits is not None:
            tensors["support.left_out_logits"] = self._left_out_logits
        jpegs = self.thumbnails if thumbnails else ()
        if jpegs:
            joined, sizes = packed(jpegs)
            tensors["support.thumbnails"] = torch.from_numpy(joined)
            tensors["support.thumbnail_sizes"] = torch.from_numpy(sizes)
        meta = {
            "version": __version__,
            "backbone": self.backbone.name,
            "image_size": self.image_size,
            "scales": list(self.backbone.scales),
            "mean": self.backbone.mean.flatten().tolist(),
            "std": self.backbone.std.flatten().tolist(),
            "head": describe_head(self.head),
            "class_names": list(self.class_names),
            "shots": torch.bincount(self.labels, minlength=len(self.class_names)).tolist(),
            "photos": list(self.photos),
            "thumbnails": sum(map(bool, jpegs)),
            "provenance": self.provenance,
        }
        checkpoint.save(path, "personal", tensors, meta)
        return path

    @cached_property
    def strangers(self) -> StrangerDetector:
        """Tells photos of none of the classes; made when it is first asked for."""
        return StrangerDetector(self.features, self.labels, len(self.class_names), self._left_out)

    @property
    def adapted_by_gradient(self) -> bool:
        """Whether gradient steps on the photos made the network and the head."""
        return isinstance(self.head, AdaptedHead)

    @torch.no_grad()
    def left_out_logits(self) -> Tensor:
        """What the other support photos make of each, (N, K); NaN for a class's only photo.

        Left out of the head alone (`heads.leave_one_out`); where gradient steps adapted the
        network, of all of the adaptation, a fold at a time (`cross_adaptation`).
        """
        if self._left_out_logits is not None:
            return self._left_out_logits
        return left_out_logits(self.head, self.features, self.labels, len(self.class_names))

    @torch.no_grad()
    def embed(self, images: Tensor, *, micro_batch: int = 64) -> Tensor:
        """Features (B, d) of images as `outputs` takes them."""
        return map_batches(self.backbone, images.to(self.features.device), micro_batch)

    @torch.no_grad()
    def outputs(self, images: Tensor, *, micro_batch: int = 64) -> Outputs:
        """Class probabilities and strangeness.

        Args:
            images: (B, 3, S, S), uint8 or float in [0, 1], S = `image_size`.
            micro_batch: images that go through the network at a time.
        """
        return self.outputs_of(self.embed(images, micro_batch=micro_batch))

    def outputs_of(self, features: Tensor) -> Outputs:
        """As `outputs`, from features (B, d) of the images."""
        logits = self.head.logits(self._statistics, features)
        return Outputs(logits.softmax(dim=1).float(), self.strangers.strangeness(features))

    @torch.no_grad()
    def probabilities(self, images: Tensor, *, micro_batch: int = 64) -> Tensor:
        """Class probabilities alone, float32 (B, K), of images as `outputs` takes."""
        features = self.embed(images, micro_batch=micro_batch)
        return self.head.logits(self._statistics, features).softmax(dim=1).float()

    @overload
    def classify(  # type: ignore[overload-overlap]  # a str is meant as one path
        self, photos: str | Path, *, top: int = 3, reject: float | None = 0.05
    ) -> Prediction: ...
    @overload
    def classify(
        self, photos: Iterable[str | Path], *, top: int = 3, reject: float | None = 0.05
    ) -> list[Prediction]: ...

    def classify(
        self,
        photos: str | Path | Iterable[str | Path],
        *,
        top: int = 3,
        reject: float | None = 0.05,
    ) -> Prediction | list[Prediction]:
        """Name what photos show.

        Args:
            photos: a path, or several. Unreadable photos come back with their problem.
            top: how many class names each answer has.
            reject: the share of one's own photos that may be called unknown for it that strangers
                are; None to name every photo.

        Raises:
            UsageError: `reject` is not from 0 to below 1.
        """
        if isinstance(photos, str | Path):
            return next(self.classify_stream([Path(photos)], top=top, reject=reject))
        paths = (Path(photo) for photo in photos)
        return list(self.classify_stream(paths, top=top, reject=reject))

    def classify_stream(
        self,
        paths: Iterable[Path | Skipped],
        *,
        top: int = 3,
        batch: int = 64,
        reject: float | None = 0.05,
    ) -> Iterator[Prediction]:
        """As `classify`, in the order of `paths`, which are taken as they are needed.

        Photos are decoded while others go through the network, `3 * batch` of them in memory at
        most. Files that are known to be no photos come back with the reason.
        """
        threshold = math.inf if reject is None else self.strangers.threshold(reject)
        with contextlib.closing(decoded_batches(paths, self.image_size, batch=batch)) as batches:
            for decoded in batches:
                answers = self._answers(torch.from_numpy(decoded.pixels), top, threshold)
                for position, path in enumerate(decoded.paths):
                    if position in decoded.problems:
                        yield Prediction(path, (), decoded.problems[position])
                    else:
                        yield replace(next(answers), path=path)

    def _answers(self, images: Tensor, top: int, threshold: float) -> Iterator[Prediction]:
        if not len(images):
            return
        outputs = self.outputs(images)
        best = outputs.probabilities.cpu().sort(dim=1, descending=True, stable=True)
        rows = zip(
            best.values[:, :top].tolist(),
            best.indices[:, :top].tolist(),
            outputs.strangeness.tolist(),
            strict=True,
        )
        for values, classes, strange in rows:
            names = (self.class_names[k] for k in classes)
            labels = tuple(zip(names, values, strict=True))
            yield Prediction(None, labels, None, strange > threshold, strange)


#: What building a model from a file's contents raises if they do not belong together.
DAMAGE = (AttributeError, KeyError, TypeError, ValueError, RuntimeError, UsageError)


def what_is_damaged(error: Exception) -> str:
    """One line for a `DAMAGE` error; torch puts a headline above the first thing that is wrong."""
    if isinstance(error, KeyError):
        return f"{error} is missing"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[min(1, len(lines) - 1)].rstrip(".") if lines else type(error).__name__


def _narrow(tensor: Tensor) -> Tensor:
    """Half precision where nothing is lost by it, as for weights that a base stored in half."""
    if not tensor.is_floating_point() or tensor.ndim < 2:
        return tensor
    half = tensor.half()
    return half if torch.equal(half.float(), tensor) else tensor


def _check_left_out_logits(logits: Tensor, labels: Tensor, classes: int) -> None:
    """ValueError if they do not fit the support set."""
    if logits.dtype != torch.float32 or logits.shape != (len(labels), classes):
        raise ValueError("support.left_out_logits has another shape or type")
    shots = torch.bincount(labels)[labels]
    if not torch.equal(logits.isfinite(), (shots > 1)[:, None].expand_as(logits)):
        raise ValueError("support.left_out_logits are not finite")


def _thumbnails(tensors: dict[str, Tensor], number: int) -> tuple[bytes, ...]:
    """The support photos' thumbnails, if the file has any; ValueError if they do not fit."""
    if "support.thumbnails" not in tensors:
        return ()
    joined, sizes = tensors["support.thumbnails"], tensors["support.thumbnail_sizes"]
    if joined.dtype != torch.uint8 or joined.ndim != 1:
        raise ValueError("support.thumbnails has another shape or type")
    if sizes.dtype != torch.int64 or sizes.shape != (number,):
        raise ValueError("support.thumbnail_sizes do not fit support.labels")
    return unpacked(joined.numpy(), sizes.tolist())


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
