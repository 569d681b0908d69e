"""Photos as a page shows them: support photos, and classified photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fewshot_lite.images.clips import frames_of
from fewshot_lite.images.decoding import decode_pixels
from fewshot_lite.images.thumbnails import thumbnail
from fewshot_lite.images.videos import is_video
from fewshot_lite.personal.classifier import PhotoClassifier
from fewshot_lite.personal.prediction import Prediction
from fewshot_lite.personal.report.reasons import nearest_photos
from fewshot_lite.personal.with_photos import WithPhotos


@dataclass(frozen=True)
class Photo:
    """A photo on a page."""

    name: str
    """Its path, as far as that is known."""
    jpeg: bytes = b""
    """A thumbnail; empty if there is none."""
    label: str = ""
    """The class that it is in."""
    taken_for: str | None = None
    """The wrong class that was predicted, if any."""

    @property
    def in_class(self) -> str:
        """Its name without the folder of its class."""
        return self.name.removeprefix(f"{self.label}/")


class SupportPhotos:
    """The support photos of a model by index, and files of the folder that it was adapted to."""

    def __init__(self, personal: WithPhotos) -> None:
        self.personal = personal
        self.labels: list[int] = personal.contents.labels.tolist()
        adaptation = personal.adaptation
        self._root = adaptation.root if adaptation else None
        paths = adaptation.paths if adaptation else ()
        self._indices = {path: index for index, path in enumerate(paths)}

    def __getitem__(self, index: int) -> Photo:
        label = self.personal.class_names[self.labels[index]]
        photos, thumbnails = self.personal.photos, self.personal.thumbnails
        name = photos[index] if photos else f"{label}, photo {index + 1}"
        return Photo(name, thumbnails[index] if thumbnails else b"", label)

    def file(self, path: Path) -> Photo:
        """Return a file of the folder, with its thumbnail if it is a support photo."""
        index = self._indices.get(path)
        return Photo(self.spelled(path)) if index is None else self[index]

    def spelled(self, path: Path) -> str:
        """Return a file's path relative to the folder, or as it is outside."""
        if self._root is not None and path.is_relative_to(self._root):
            return path.relative_to(self._root).as_posix()
        return str(path)


@dataclass(frozen=True)
class Answer:
    """A classified photo on a page."""

    prediction: Prediction
    photo: Photo
    reasons: tuple[int, ...] = ()
    """Indices of the most similar support photos, the most similar first."""


def read_again(
    model: PhotoClassifier, support: SupportPhotos | None, predictions: Sequence[Prediction]
) -> list[Answer]:
    """Read photos again for thumbnails and similar support photos; return answers in order."""
    tried = [i for i, prediction in enumerate(predictions) if prediction.path is not None]
    paths = [path for prediction in predictions if (path := prediction.path) is not None]
    size = model.image_size
    stills = [frames_of(path, size, 1)[0] if is_video(path) else path for path in paths]
    pixels, problems = decode_pixels(stills, size, whites=model.whites)
    answers = [Answer(p, Photo(str(p.path))) for p in predictions]
    good = [j for j in range(len(tried)) if j not in problems]
    similar: list[list[int]] = [[] for _ in good]
    if support is not None and good:
        personal = support.personal
        classes = [personal.class_names.index(predictions[tried[j]].labels[0][0]) for j in good]
        similar = nearest_photos(personal, personal.features_of(pixels[good]), classes)
    for j, reasons in zip(good, similar, strict=True):
        prediction = predictions[tried[j]]
        jpeg = thumbnail(np.ascontiguousarray(pixels[j].transpose(1, 2, 0)))
        answers[tried[j]] = Answer(prediction, Photo(str(prediction.path), jpeg), tuple(reasons))
    return answers
