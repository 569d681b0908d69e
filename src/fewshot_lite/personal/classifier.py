"""Classify photos with a personal model, whichever engine runs it; this does not import torch."""

from __future__ import annotations

import contextlib
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from numbers import Integral
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias, TypedDict, Unpack, cast, overload

import numpy as np
import numpy.typing as npt

from fewshot_lite.core.config import check_switch
from fewshot_lite.core.errors import UsageError
from fewshot_lite.core.files import check_there
from fewshot_lite.images.bit_depths import recorded_whites, with_whites
from fewshot_lite.images.decoding import digest_of
from fewshot_lite.images.folders import Skipped
from fewshot_lite.images.inputs import Photo, as_source, as_sources, is_photo
from fewshot_lite.images.opening import PhotoError
from fewshot_lite.images.photo import Source, file_of
from fewshot_lite.images.prefetch import DecodedBatch, decoded_batches
from fewshot_lite.images.videos import FRAMES, as_pixels, as_seconds, check_frames, time_line
from fewshot_lite.personal.prediction import Prediction
from fewshot_lite.personal.views import VIEWS, Pixels, mean_answers, recorded_views, view

#: Moments of a video in memory at a time.
_MOMENTS = 32
#: Names of classes in a `repr`.
_SHOWN = 5

_NOT_FINITE = "the model's answer is not finite: its file is damaged, so adapt anew"

#: Class probabilities float32 (B, K) and novelty scores float32 (B,).
Answers: TypeAlias = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


class ClassifyOptions(TypedDict, total=False):
    """The options of `PhotoClassifier.classify`."""

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
    """Whether `classify` averages over views of a photo (`personal.views`): those that the model
    was adapted to, or all three if it was adapted to one."""
    whites: Mapping[str, float] = MappingProxyType({})
    """The white levels of grey photos of more than 8 bits (`images.bit_depths`) in the last call of
    `classify`."""
    workers: int | None = None
    """Threads that decode photos in `classify`; None: one a core and two more."""

    def __repr__(self) -> str:
        names = ", ".join(self.class_names[:_SHOWN]) + ", …" * (len(self.class_names) > _SHOWN)
        return f"{type(self).__name__}({len(self.class_names)} classes: {names})"

    @property
    def known_digests(self) -> frozenset[int]:
        """Digests (`images.decoding.digest_of`) of the support photos, if the model keeps them."""
        return frozenset()

    @abstractmethod
    def threshold(self, reject: float) -> float:
        """Return the novelty score above which a photo is unknown; see `novelty_threshold`."""

    @abstractmethod
    def answers_of(self, pixels: Pixels) -> Answers:
        """Return class probabilities (B, K) and novelty scores (B,) of images (B, 3, S, S)."""

    @overload
    def classify(  # type: ignore[overload-overlap]  # a str is meant as one path
        self, photos: Photo, **options: Unpack[ClassifyOptions]
    ) -> Prediction: ...
    @overload
    def classify(
        self, photos: Iterable[Photo], **options: Unpack[ClassifyOptions]
    ) -> list[Prediction]: ...

    def classify(
        self,
        photos: Photo | Iterable[Photo],
        *,
        top: int = 3,
        reject: float | None = 0.05,
        frames: int = FRAMES,
        every: float | None = None,
    ) -> Prediction | list[Prediction]:
        """Classify photos and videos.

        A video has one answer, from frames drawn evenly over its time: the mean of their logits, as
        of the views of a photo, and the median of their novelty scores, so that it is unknown if
        most of its frames are.

        Args:
            photos: one photo in any form (`images.inputs.Photo`: a path, bytes, an image of
                Pillow's, an array, a tensor), or several in any forms and sizes; an array or tensor
                of four dimensions is several. A folder stands for the photos in it, and always has
                a list of answers. The answer for a photo that cannot be read is its problem.
            top: class names in each answer.
            reject: the share of one's own photos that may be called unknown, so that photos of none
                of the classes are; None to name every photo.
            frames: frames to draw from each video.
            every: seconds between the moments of a video that also have an answer each, in
                `Prediction.time_line`.

        Raises:
            UsageError: `top` is below 1, `reject` not from 0 to below 1, or `frames` not from 1 to
                1,000; a single file that does not exist; a type, shape or values of no photo.
        """
        one = is_photo(photos) or not isinstance(photos, Iterable)  # `as_source` refuses the latter
        sources: Iterable[Source]
        if one:
            sources = [as_source(photos, "photos")]
        else:
            sources = as_sources(cast("Iterable[Photo]", photos))
        if every is not None:
            every = as_seconds(str(every), "every")
        if not isinstance(top, Integral) or top < 1:
            raise UsageError(f"top {top}: give 1 or more.")
        answers = self.classify_stream(
            _expand_folders(sources), top=top, reject=reject, frames=frames, every=every
        )
        if not one:
            return list(answers)
        (source,) = sources
        if _is_folder(source):
            return list(answers)
        if isinstance(source, Path):
            check_there(source, f"photos: {source}")
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
        """Yield the answers of `classify` in the order of `paths`, which are read lazily.

        Photos are decoded while others go through the network; at most `3 * batch` photos and
        frames of videos are in memory. A `Skipped` file, and a photo whose answer is not finite,
        come back with the reason.
        """
        check_switch("careful", self.careful)
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
        """Yield the answers for a batch, in its order."""
        if len(decoded.pixels):
            probabilities, scores = self._careful_answers(decoded.pixels)
        rows_of = decoded.rows()
        for position, source in enumerate(decoded.paths):
            path = file_of(source)
            if position in decoded.problems:
                yield Prediction(path, (), decoded.problems[position])
                continue
            times, rows = decoded.videos.get(position), rows_of[position]
            answer = self._answer(path, probabilities[rows], scores[rows], top, threshold)
            if known and answer.labels:
                seen = any(digest_of(pixels) in known for pixels in decoded.pixels[rows])
                answer = replace(answer, adapted_to=seen)
            if times is not None:
                answer = replace(answer, frames=len(times))
                if every is not None and answer.labels:
                    answer = self._with_time_line(answer, source, every, top, threshold)
            yield answer

    def _careful_answers(self, pixels: Pixels) -> Answers:
        """Return `answers_of`, with probabilities averaged over views if `careful` is set."""
        probabilities, scores = self.answers_of(pixels)
        if self.careful:
            views = recorded_views(self.provenance)[1:] or VIEWS[1:]
            others = [self.answers_of(view(pixels, name))[0] for name in views]
            probabilities = mean_answers([probabilities, *others])
        return probabilities, scores

    def _answer(
        self,
        path: Path | None,
        probabilities: npt.NDArray[np.float32],
        scores: npt.NDArray[np.float32],
        top: int,
        threshold: float,
    ) -> Prediction:
        """Return the answer for a photo, or for F frames of a video, from (F, K) and (F,)."""
        if not (np.isfinite(probabilities).all() and np.isfinite(scores).all()):
            return Prediction(path, (), _NOT_FINITE)
        if len(probabilities) > 1:
            probabilities = mean_answers([frame[None] for frame in probabilities])
        score = float(np.sort(scores)[len(scores) // 2])
        best = np.argsort(-probabilities[0], kind="stable")[:top]
        labels = tuple((self.class_names[k], float(probabilities[0, k])) for k in best)
        return Prediction(path, labels, None, score > threshold, score)

    def _with_time_line(
        self, answer: Prediction, source: Source, every: float, top: int, threshold: float
    ) -> Prediction:
        """Return the answer for a video with the answers for its moments."""
        moments: list[Prediction] = []
        frames = time_line(source, self.image_size, every)
        try:
            while drawn := list(islice(frames, _MOMENTS)):
                probabilities, scores = self._careful_answers(as_pixels(drawn))
                for i, frame in enumerate(drawn):
                    rows = slice(i, i + 1)
                    moment = self._answer(
                        answer.path, probabilities[rows], scores[rows], top, threshold
                    )
                    moments.append(replace(moment, seconds=frame.seconds))
        except PhotoError as error:
            return Prediction(answer.path, (), str(error))
        return replace(answer, time_line=tuple(moments))


def _is_folder(source: Source) -> bool:
    # Path.is_dir raises where one may not look
    return isinstance(source, Path) and os.path.isdir(source)


def _expand_folders(sources: Iterable[Source]) -> Iterator[Source | Skipped]:
    """Yield the sources, and the photos in a folder in its place."""
    from fewshot_lite.personal.bulk.inputs import find_photos  # which imports this

    for source in sources:
        if _is_folder(source):
            yield from find_photos([cast("Path", source)])
        else:
            yield source
