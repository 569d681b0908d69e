"""Photos that a report shows are read once more: for their pictures, and for what they are like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from fewshot_lite.images.decoding import decode_pixels
from fewshot_lite.images.thumbnails import thumbnail
from fewshot_lite.personal.onnx_model import OnnxModel
from fewshot_lite.personal.prediction import Prediction

if TYPE_CHECKING:
    from fewshot_lite.personal.model import PersonalModel


class Model(Protocol):
    """What answered: a `PersonalModel`, or an exported one, which keeps no photos."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """K names."""
        ...

    @property
    def image_size(self) -> int:
        """Side of the images in pixels."""
        ...


@dataclass(frozen=True)
class Seen:
    """A photo that is shown."""

    prediction: Prediction
    jpeg: bytes = b""
    """Empty if it could not be read again."""
    reasons: tuple[int, ...] = ()
    """Support photos that it is like, the likest first."""


def as_personal(model: Model) -> PersonalModel | None:
    """The model if it keeps features of its photos. Of an exported one, torch is not imported."""
    if isinstance(model, OnnxModel):
        return None
    from fewshot_lite.personal.model import PersonalModel

    return model if isinstance(model, PersonalModel) else None


def look_at(model: Model, predictions: Sequence[Prediction]) -> list[Seen]:
    """Pictures of photos, and the support photos that they are like, in the order given."""
    tried = [i for i, prediction in enumerate(predictions) if prediction.path is not None]
    paths = [path for prediction in predictions if (path := prediction.path) is not None]
    pixels, problems = decode_pixels(paths, model.image_size)
    good = [j for j in range(len(tried)) if j not in problems]
    shown = [predictions[tried[j]] for j in good]
    reasons = _reasons(as_personal(model), pixels[good], shown)
    seen = [Seen(prediction) for prediction in predictions]
    for j, prediction, like in zip(good, shown, reasons, strict=True):
        jpeg = thumbnail(np.ascontiguousarray(pixels[j].transpose(1, 2, 0)))
        seen[tried[j]] = Seen(prediction, jpeg, tuple(like))
    return seen


def _reasons(
    personal: PersonalModel | None,
    pixels: npt.NDArray[np.uint8],
    predictions: Sequence[Prediction],
) -> list[list[int]]:
    """For each of B images (B, 3, S, S), indices of support photos."""
    if personal is None or not predictions:
        return [[] for _ in predictions]
    import torch

    from fewshot_lite.personal.report.reasons import nearest_photos

    images = torch.from_numpy(pixels).to(personal.features.device)
    answers = [personal.class_names.index(prediction.labels[0][0]) for prediction in predictions]
    return nearest_photos(personal, personal.embed(images), answers)
