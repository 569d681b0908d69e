"""Naming photos with a personal model, whichever engine runs it; this does not import torch."""

from __future__ import annotations

import contextlib
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypedDict, Unpack, cast, overload

import numpy as np
import numpy.typing as npt

from fewshot_lite.core.errors import UsageError
from fewshot_lite.images.bit_depths import recorded_whites, with_whites
from fewshot_lite.images.decoding import digest_of
from fewshot_lite.images.folders import Skipped
from fewshot_lite.images.inputs import Photo, as_source, as_sources, is_photo
from fewshot_lite.images.opening import PhotoError
from fewshot_lite.images.photo import Source, file_of
from fewshot_lite.images.prefetch import DecodedBatch, decoded_batches
from fewshot_lite.images.videos import FRAMES, as_pixels, as_seconds, check_frames, time_line
from fewshot_lite.personal.prediction import Prediction
from fewshot_lite.personal.views import VIEWS, mean_answers, recorded_views, view

#: Moments of a video in memory at a time.
_MOMENTS = 32
#: Names of classes in a `repr`.
_SHOWN = 5

_NOT_FINITE = "the model's answer is not finite: its file is damaged, so adapt anew"


class Asked(TypedDict, total=False):
    """How answers are wanted; see `PhotoClassifier.classify`."""

    top: int
    reject: float | None
    frames: int
    every: float | None


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

    def __repr__(self) -> str:
        names = ", ".join(self.class_names[:_SHOWN]) + ", …" * (len(self.class_names) > _SHOWN)
        return f"{type(self).__name__}({len(self.class_names)} classes: {names})"

    whites: Mapping[str, float] = MappingProxyType({})
    """What white was in grey photos of more than 8 bits (`images.bit_depths`) when photos were last
    classified."""

    workers: int | None = None
    """Threads that decode photos in `classify`; one a core and two more unless set."""

    @property
    def known_digests(self) -> frozenset[int]:
        """Of the photos that it was adapted to (`images.decoding.digest_of`), if it knows them."""
        return frozenset()

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
        self, photos: Photo, **asked: Unpack[Asked]
    ) -> Prediction: ...
    @overload
    def classify(self, photos: Iterable[Photo], **asked: Unpack[Asked]) -> list[Prediction]: ...

    def classify(
        self,
        photos: Photo | Iterable[Photo],
        *,
        top: int = 3,
        reject: float | None = 0.05,
        frames: int = FRAMES,
        every: float | None = None,
    ) -> Prediction | list[Prediction]:
        """Name what photos and videos show.

        A video has one answer, of frames drawn evenly over its time: the mean of their logits, as
        of the views of a photo, and the median of their strangeness, so that it is unknown if most
        of them are.

        Args:
            photos: one photo in any form (`images.inputs.Photo`: a path, bytes, an image of
                Pillow's, an array, a tensor), or several in any forms and sizes; an array or tensor
                of four dimensions is several. A folder stands for the photos in it, and has a list
                of answers also where it is given alone. Photos that cannot be read come back with
                their problem.
            top: how many class names each answer has.
            reject: the share of one's own photos that may be called unknown so that photos of none
                of the classes are; None to name every photo.
            frames: that are drawn of each video.
            every: seconds between the moments of a video that are answered each for itself as well,
                in `Prediction.time_line`.

        Raises:
            UsageError: `top` is below 1, `reject` not from 0 to below 1, or `frames` not from 1 to
                1,000; a file given alone is not there; what is no photo by its type, shape or
                values.
        """
        one = is_photo(photos)
        sources = [as_source(photos, "photos")] if one else as_sources(_several(photos))
        if every is not None:
            every = as_seconds(str(every), "every")
        if top < 1:
            raise UsageError(f"top {top}: give 1 or more.")
        found = _in_folders(sources)
        answers = self.classify_stream(found, top=top, reject=reject, frames=frames, every=every)
        if not one:
            return list(answers)
        (source,) = sources
        if not isinstance(source, Path):
            return next(answers)
        if os.path.isdir(source):  # noqa: PTH112  # Path.is_dir raises where one may not look
            return list(answers)
        if not os.path.exists(source):  # noqa: PTH110
            raise UsageError(f"photos: {source}: no such file.")
        return next(answers)

    def classify_stream(
        self,
        paths: Iterable[Source | Skipped],
        *,
        top: int = 3,
        batch: int = 64,
        reject: float | None = 0.05,
        frames: int = FRAMES,
        every: float | None = None,
    ) -> Iterator[Prediction]:
        """As `classify`, in the order of `paths`, which are taken as they are needed.

        Photos are decoded while others go through the network, `3 * batch` of them, or of videos'
        frames, in memory at most. Files that are known to be no photos come back with the reason,
        and so does a photo whose answer is not finite.
        """
        threshold = math.inf if reject is None else self.threshold(reject)
        check_frames(frames)
        known = self.known_digests
        paths, self.whites = with_whites(paths, recorded_whites(self.provenance), 3 * batch)
        decoding = decoded_batches(
            paths,
            self.image_size,
            batch=batch,
            workers=self.workers,
            frames=frames,
            whites=self.whites,
        )
        with contextlib.closing(decoding) as batches:
            for decoded in batches:
                yield from self._predictions(decoded, top, threshold, known, every)

    def _predictions(
        self,
        decoded: DecodedBatch,
        top: int,
        threshold: float,
        known: frozenset[int],
        every: float | None,
    ) -> Iterator[Prediction]:
        """The answers for what was decoded, in its order."""
        if len(decoded.pixels):
            probabilities, strangeness = self._careful_answers(decoded.pixels)
        rows_of = decoded.rows()
        for position, source in enumerate(decoded.paths):
            path = file_of(source)
            if position in decoded.problems:
                yield Prediction(path, (), decoded.problems[position])
                continue
            times, rows = decoded.videos.get(position), rows_of[position]
            found = self._answer(path, probabilities[rows], strangeness[rows], top, threshold)
            if known and found.labels:
                mine = any(digest_of(pixels) in known for pixels in decoded.pixels[rows])
                found = replace(found, adapted_to=mine)
            if times is not None:
                found = replace(found, frames=len(times))
                if every is not None and found.labels:
                    found = self._with_time_line(found, source, every, top, threshold)
            yield found

    def _careful_answers(
        self, pixels: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """As `answers_of`, over views if that is asked for."""
        probabilities, strangeness = self.answers_of(pixels)
        if self.careful:
            views = recorded_views(self.provenance)[1:] or VIEWS[1:]
            others = [self.answers_of(view(pixels, name))[0] for name in views]
            probabilities = mean_answers([probabilities, *others])
        return probabilities, strangeness

    def _answer(
        self,
        path: Path | None,
        probabilities: npt.NDArray[np.float32],
        strangeness: npt.NDArray[np.float32],
        top: int,
        threshold: float,
    ) -> Prediction:
        """The answer of a photo, or of the frames of a video, (F, K) and (F,)."""
        if not (np.isfinite(probabilities).all() and np.isfinite(strangeness).all()):
            return Prediction(path, (), _NOT_FINITE)
        if len(probabilities) > 1:
            probabilities = mean_answers([frame[None] for frame in probabilities])
        strange = float(np.sort(strangeness)[len(strangeness) // 2])
        best = np.argsort(-probabilities[0], kind="stable")[:top]
        labels = tuple((self.class_names[k], float(probabilities[0, k])) for k in best)
        return Prediction(path, labels, None, strange > threshold, strange)

    def _with_time_line(
        self, found: Prediction, source: Source, every: float, top: int, threshold: float
    ) -> Prediction:
        """The answer of a video with those of its moments."""
        moments: list[Prediction] = []
        frames = time_line(source, self.image_size, every)
        try:
            while drawn := list(islice(frames, _MOMENTS)):
                answers = self._careful_answers(as_pixels(drawn))
                for frame, *answer in zip(drawn, *answers, strict=True):
                    one = [np.asarray(values)[None] for values in answer]
                    moment = self._answer(found.path, one[0], one[1], top, threshold)
                    moments.append(replace(moment, seconds=frame.seconds))
        except PhotoError as error:
            return Prediction(found.path, (), str(error))
        return replace(found, time_line=tuple(moments))


def _several(photos: Any) -> Iterable[Photo]:
    if not isinstance(photos, Iterable):
        as_source(photos, "photos")  # raises: neither a photo nor several
    return cast("Iterable[Photo]", photos)


def _in_folders(sources: Iterable[Source]) -> Iterator[Source | Skipped]:
    """The sources, and in place of folders the photos in them."""
    from fewshot_lite.personal.bulk.inputs import find_photos  # which imports this

    for source in sources:
        if isinstance(source, Path) and os.path.isdir(source):  # noqa: PTH112
            yield from find_photos([source])
        else:
            yield source
