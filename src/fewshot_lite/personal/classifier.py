"""Naming photos with a personal model, whichever engine runs it; this does not import torch."""

from __future__ import annotations

import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from fewshot_lite.images.folders import Skipped
from fewshot_lite.images.prefetch import DecodedBatch, decoded_batches
from fewshot_lite.personal.prediction import Prediction
from fewshot_lite.personal.views import VIEWS, mean_answers, recorded_views, view

_NOT_FINITE = "the model's answer is not finite: its file is damaged, so adapt anew"


class PhotoClassifier(ABC):
    """A classifier of a person's own classes."""

    class_names: tuple[str, ...]
    """K names."""
    image_size: int
    """Side S of the images in pixels."""
    provenance: dict[str, Any]
    """JSON-able record of base, version and date."""
    careful: bool = False
    """Whether `classify` takes the mean over views of a photo (`personal.views`): those that the
    model's photos were adapted in, or all three if that is one."""

    @abstractmethod
    def threshold(self, reject: float) -> float:
        """The strangeness above which a photo is unknown; see `novelty`."""

    @abstractmethod
    def answers_of(
        self, pixels: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Class probabilities (B, K) and strangeness (B,) of images (B, 3, S, S)."""

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
            reject: the share of one's own photos that may be called unknown so that photos of none
                of the classes are; None to name every photo.

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
        most. Files that are known to be no photos come back with the reason, and so does a photo
        whose answer is not finite.
        """
        threshold = math.inf if reject is None else self.threshold(reject)
        with contextlib.closing(decoded_batches(paths, self.image_size, batch=batch)) as batches:
            for decoded in batches:
                yield from self._predictions(decoded, top, threshold)

    def _predictions(
        self, decoded: DecodedBatch, top: int, threshold: float
    ) -> Iterator[Prediction]:
        if len(decoded.pixels):
            probabilities, strangeness = self.answers_of(decoded.pixels)
            if self.careful:
                views = recorded_views(self.provenance)[1:] or VIEWS[1:]
                others = [self.answers_of(view(decoded.pixels, name))[0] for name in views]
                probabilities = mean_answers([probabilities, *others])
            order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
            finite = np.isfinite(probabilities).all(1) & np.isfinite(strangeness)
        row = 0
        for position, path in enumerate(decoded.paths):
            if position in decoded.problems:
                yield Prediction(path, (), decoded.problems[position])
                continue
            if finite[row]:
                best, strange = order[row], float(strangeness[row])
                labels = tuple((self.class_names[k], float(probabilities[row, k])) for k in best)
                yield Prediction(path, labels, None, strange > threshold, strange)
            else:
                yield Prediction(path, (), _NOT_FINITE)
            row += 1
