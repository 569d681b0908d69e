"""The part of the API that classifies, which needs no more than a model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fewshot_lite import __version__
from fewshot_lite.images.decoding import worker_count
from fewshot_lite.personal.bulk.writers import as_record
from fewshot_lite.personal.classifier import PhotoClassifier
from fewshot_lite.serve.bodies import photos_of, reject_of, top_of
from fewshot_lite.serve.replies import Reply, json_reply
from fewshot_lite.serve.routes import Handlers, Query, route

if TYPE_CHECKING:
    from starlette.requests import Request

_QUERY = (
    Query("top", "How many class names an answer has.", {"type": "integer", "default": 3}),
    Query(
        "reject",
        "The share of your own photos that may be called unknown, from 0 to below 1; or `off`.",
        {"type": "string", "default": "0.05"},
    ),
)


class Classifying(Handlers):
    """Handlers that classify with the present model."""

    def __init__(self, model: Callable[[], PhotoClassifier]) -> None:
        """Take a function that returns the present model, or raises if there is none."""
        self._model = model
        # More requests at a time would only compete for the cores.
        self._slots = asyncio.Semaphore(max(1, worker_count() - 2))

    @route("GET", "/healthz")
    async def health(self, request: Request) -> Reply:
        """Return whether the server is running."""
        return json_reply({"status": "ok", "version": __version__})

    @route("GET", "/v1/model", refuses=(409,))
    async def about(self, request: Request) -> Reply:
        """Describe the model."""
        return json_reply(about(self._model()))

    @route("POST", "/v1/classify", "photos", gives="Answers", query=_QUERY, refuses=(400, 409, 422))
    async def classify(self, request: Request) -> Reply:
        """Classify photos: one as the body, or several as files of a form.

        Answers are in the order of the photos; 422 if none could be read.
        """
        model, top, reject = self._model(), top_of(request), reject_of(request)
        uploads = await photos_of(request)
        photos = [upload.data for upload in uploads]
        async with self._slots:
            answers = await asyncio.to_thread(model.classify, photos, top=top, reject=reject)
        records = [
            as_record(answer) | {"path": upload.name}
            for answer, upload in zip(answers, uploads, strict=True)
        ]
        read = any(answer.problem is None for answer in answers)
        return json_reply(records, 200 if read else 422)


def about(model: PhotoClassifier) -> dict[str, Any]:
    """Return the description of a model as JSON-able values."""
    shots = getattr(model, "shots", None)  # exported models have none
    return {
        "class_names": list(model.class_names),
        "image_size": model.image_size,
        **({"shots": shots} if shots else {}),
        "provenance": model.provenance,
        "version": __version__,
    }
