"""The personal model: a plain torchvision network, class statistics and names, in one file.

FiLM lies folded in the network's norm layers. Of the support set the file keeps the features and
labels, from which the head is fitted anew at load: N·d numbers; matrices would be d·d a class.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor

from fewshot_lite import __version__, checkpoint
from fewshot_lite.backbones import Backbone
from fewshot_lite.data.folders import Skipped
from fewshot_lite.data.store import decode
from fewshot_lite.errors import FewshotError, UsageError
from fewshot_lite.files import DEFAULT_PERSONAL, check_output
from fewshot_lite.heads.registry import AnyHead, describe_head, make_head
from fewshot_lite.learners.base import map_batches


@dataclass(frozen=True)
class Prediction:
    """The answer for one photo."""

    path: Path | None
    labels: tuple[tuple[str, float], ...]
    """Class names with probabilities, the likeliest first; empty if the photo was not read."""
    problem: str | None = None
    """Why the photo was not read."""

    @property
    def label(self) -> str | None:
        """The likeliest class."""
        return self.labels[0][0] if self.labels else None

    @property
    def probability(self) -> float | None:
        """Of the likeliest class."""
        return self.labels[0][1] if self.labels else None


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
        """
        self.backbone = backbone.eval().requires_grad_(False)
        self.head = head.requires_grad_(False)
        self.features = features
        self.labels = labels
        self.class_names = class_names
        self.image_size = image_size
        self.provenance = provenance
        self.photos = photos
        self._statistics = self.head.fit(features, labels, len(class_names))

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
            backbone = Backbone(meta["backbone"], size)
            backbone.network.load_state_dict(_under("network.", tensors))
            head = make_head(meta["head"])
            head.load_state_dict(_under("head.", tensors))
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
            return cls(
                backbone.to(device),
                head.to(device),
                features.to(device),
                labels.to(device),
                tuple(names),
                size,
                meta["provenance"],
                tuple(photos),
            )
        except DAMAGE as error:
            raise FewshotError(f"--model {path}: damaged ({what_is_damaged(error)}).") from None

    def save(self, path: str | Path = DEFAULT_PERSONAL, *, force: bool = False) -> Path:
        """Write the model, whole or not at all.

        Raises:
            UsageError: the file exists and `force` is not set, or its folder is not there.
        """
        path = Path(path)
        check_output(path, force=force)
        tensors = {
            f"network.{k}": _narrow(v) for k, v in self.backbone.network.state_dict().items()
        }
        tensors |= {f"head.{k}": v for k, v in self.head.state_dict().items()}
        tensors |= {"support.features": self.features, "support.labels": self.labels}
        meta = {
            "version": __version__,
            "backbone": self.backbone.name,
            "image_size": self.image_size,
            "mean": self.backbone.mean.flatten().tolist(),
            "std": self.backbone.std.flatten().tolist(),
            "head": describe_head(self.head),
            "class_names": list(self.class_names),
            "shots": torch.bincount(self.labels, minlength=len(self.class_names)).tolist(),
            "photos": list(self.photos),
            "provenance": self.provenance,
        }
        checkpoint.save(path, "personal", tensors, meta)
        return path

    @torch.no_grad()
    def probabilities(self, images: Tensor, *, micro_batch: int = 64) -> Tensor:
        """Class probabilities.

        Args:
            images: (B, 3, S, S), uint8 or float in [0, 1], S = `image_size`.

        Returns:
            float32 (B, K).
        """
        images = images.to(self.features.device)
        features = map_batches(self.backbone, images, micro_batch)
        return self.head.logits(self._statistics, features).softmax(dim=1).float()

    @overload
    def classify(  # type: ignore[overload-overlap]  # a str is meant as one path
        self, photos: str | Path, *, top: int = 3
    ) -> Prediction: ...
    @overload
    def classify(self, photos: Iterable[str | Path], *, top: int = 3) -> list[Prediction]: ...

    def classify(
        self, photos: str | Path | Iterable[str | Path], *, top: int = 3
    ) -> Prediction | list[Prediction]:
        """Name what photos show.

        Args:
            photos: a path, or several. Unreadable photos come back with their problem.
            top: how many class names each answer has.
        """
        if isinstance(photos, str | Path):
            return next(self.classify_stream([Path(photos)], top=top))
        return list(self.classify_stream((Path(photo) for photo in photos), top=top))

    def classify_stream(
        self, paths: Iterable[Path], *, top: int = 3, batch: int = 64
    ) -> Iterator[Prediction]:
        """As `classify`, one batch in memory at a time, in the order of `paths`."""
        paths = iter(paths)
        while chunk := list(islice(paths, batch)):
            images, problems = decode(chunk, self.image_size)
            probabilities, order = self.probabilities(images).cpu().sort(dim=1, descending=True)
            for position, path in enumerate(chunk):
                if position in problems:
                    yield Prediction(path, (), problems[position])
                    continue
                names = [self.class_names[k] for k in order[position, :top].tolist()]
                best = zip(names, probabilities[position, :top].tolist(), strict=True)
                yield Prediction(path, tuple(best))


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


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
