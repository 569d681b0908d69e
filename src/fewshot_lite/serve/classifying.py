"""The part of the API that needs a model alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fewshot_lite import __version__
from fewshot_lite.images.decoding import worker_count
from fewshot_lite.personal.bulk.writers import as_record
from fewshot_lite.personal.classifier import PhotoClassifier
from fewshot_lite.personal.prediction import Prediction
from fewshot_lite.serve.bodies import photos_of, reject_of, top_of
from fewshot_lite.serve.replies import Reply, json_reply
from fewshot_lite.serve.routes import Query, Route

if TYPE_CHECKING:
    from starlette.requests import Request

_TOP = Query("top", "How many class names an answer has.", {"type": "integer", "default": 3})
_REJECT = Query(
    "reject",
    "The share of your own photos that may be called unknown, from 0 to below 1; or `off`.",
    {"type": "string", "default": "0.05"},
)


class Classifying:
    """Handlers around a model, which may be another one at each request."""

    def __init__(self, model: Callable[[], PhotoClassifier]) -> None:
        """Take in what gives the model, or raises if there is none."""
        self._model = model
        # More photos at a time would only wait for each other's cores.
        self._room = asyncio.Semaphore(max(1, worker_count() - 2))

    def routes(self) -> list[Route]:
        """What it answers to."""
        return [
            Route("GET", "/healthz", self.health, "Whether the server is there."),
            Route("GET", "/v1/model", self.about, "The model.", refuses=(409,)),
            Route(
                "POST",
                "/v1/classify",
                self.classify,
                "Name what photos show: one as the body, or several as files of a form.",
                takes="photos",
                gives="Answers",
                query=(_TOP, _REJECT),
                refuses=(400, 409, 422),
            ),
        ]

    async def health(self, request: Request) -> Reply:
        """That it runs."""
        return json_reply({"status": "ok", "version": __version__})

    async def about(self, request: Request) -> Reply:
        """Class names, size and provenance."""
        return json_reply(about(self._model()))

    async def classify(self, request: Request) -> Reply:
        """Answers in the order of the photos; 422 if none could be read."""
        model, top, reject = self._model(), top_of(request), reject_of(request)
        uploads = await photos_of(request)
        photos = [upload.data for upload in uploads]
        async with self._room:
            answers = await asyncio.to_thread(_classified, model, photos, top, reject)
        records = [
            as_record(answer) | {"path": upload.name}
            for answer, upload in zip(answers, uploads, strict=True)
        ]
        read = any(answer.problem is None for answer in answers)
        return json_reply(records, 200 if read else 422)


def _classified(
    model: PhotoClassifier, photos: list[bytes], top: int, reject: float | None
) -> list[Prediction]:
    return model.classify(photos, top=top, reject=reject)


def about(model: PhotoClassifier) -> dict[str, Any]:
    """A model in JSON-able values."""
    shots = getattr(model, "shots", None)  # what was exported does not know them
    return {
        "class_names": list(model.class_names),
        "image_size": model.image_size,
        **({"shots": shots} if shots else {}),
        "provenance": model.provenance,
        "version": __version__,
    }
