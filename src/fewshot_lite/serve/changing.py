"""The part of the API that changes classes and photos, and opens and saves models."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from fewshot_lite.core.config import Refine
from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.serve import archive, edits
from fewshot_lite.serve.bodies import members_of, numbers, photos_of, text
from fewshot_lite.serve.edits import Change
from fewshot_lite.serve.errors import NotFound
from fewshot_lite.serve.replies import Reply, download, json_reply
from fewshot_lite.serve.routes import Handlers, Query, route
from fewshot_lite.serve.session import Session
from fewshot_lite.serve.state import state_of

if TYPE_CHECKING:
    from starlette.requests import Request

#: The path at which a model is opened and saved; request bodies may be larger there.
MODEL_FILE = "/v1/model/file"
_SINCE = Query("since", "RUN.REVISION of a state; 204 if it is still that one.", {"type": "string"})
_BINARY = "application/octet-stream"


class Changing(Handlers):
    """Handlers of a session. Those that change it reply with the new state."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @route("GET", "/v1/session", query=(_SINCE,))
    async def state(self, request: Request) -> Reply:
        """Return classes, photos and the model."""
        if request.query_params.get("since") == f"{self._session.run}.{self._session.revision}":
            return Reply(b"", "application/json", 204)
        return await self._state()

    @route("POST", "/v1/undo", refuses=(409,))
    async def undo(self, request: Request) -> Reply:
        """Undo the last change."""
        await asyncio.to_thread(self._session.undo)
        return await self._state()

    @route("POST", "/v1/classes", ("name",), refuses=(400,))
    async def create(self, request: Request) -> Reply:
        """Add a class."""
        (name,) = await members_of(request, "name")
        return await self._edit(edits.create_class, text(name, "name"))

    @route("PATCH", "/v1/classes/{name}", ("name", "into"), refuses=(400, 404))
    async def rename(self, request: Request) -> Reply:
        """Rename a class, or merge it `into` another one."""
        old = request.path_params["name"]
        new, into = await members_of(request, "name", "into")
        if (new is None) == (into is None):
            raise UsageError("Give name, to rename the class, or into, to merge it: one of them.")
        if into is not None:
            return await self._edit(edits.merge_classes, old, text(into, "into"))
        return await self._edit(edits.rename_class, old, text(new, "name"))

    @route("DELETE", "/v1/classes/{name}", refuses=(404,))
    async def remove_class(self, request: Request) -> Reply:
        """Remove a class."""
        return await self._edit(edits.remove_class, request.path_params["name"])

    @route("POST", "/v1/classes/{name}/photos", "photos", refuses=(400, 404, 422))
    async def add(self, request: Request) -> Reply:
        """Add photos to a class: one as the body, or several as files of a form.

        The reply has the result for each photo, and the state; 422 if none could be read.
        """
        label, uploads = request.path_params["name"], await photos_of(request)
        added = await asyncio.to_thread(self._session.add_photos, label, uploads)
        status = 200 if any(item.number is not None for item in added) else 422
        photos = [asdict(item) for item in added]
        return json_reply({"photos": photos, "state": state_of(self._session)}, status)

    @route("POST", "/v1/photos/move", ("numbers", "name"), refuses=(400, 404))
    async def move(self, request: Request) -> Reply:
        """Move photos into another class."""
        photos, name = await members_of(request, "numbers", "name")
        return await self._edit(edits.move_photos, numbers(photos), text(name, "name"))

    @route("POST", "/v1/photos/remove", ("numbers",), refuses=(400, 404))
    async def remove(self, request: Request) -> Reply:
        """Remove photos."""
        (photos,) = await members_of(request, "numbers")
        return await self._edit(edits.remove_photos, numbers(photos))

    @route("POST", "/v1/photos/keep", ("numbers",), refuses=(400, 404))
    async def keep(self, request: Request) -> Reply:
        """Confirm that photos are in the right class."""
        (photos,) = await members_of(request, "numbers")
        return await self._edit(edits.keep_photos, numbers(photos))

    @route("GET", "/v1/photos/{number}/picture", gives="image/jpeg", refuses=(404,))
    async def picture(self, request: Request) -> Reply:
        """Return a small picture of a photo."""
        number = request.path_params["number"]
        if not (number.isascii() and number.isdigit()):
            raise NotFound("There is no photo of this number.")
        jpeg = await asyncio.to_thread(self._session.thumbnail, int(number[:15]))
        return Reply(jpeg, "image/jpeg")

    @route("GET", "/v1/photos.zip", gives="application/zip", refuses=(409,))
    async def photos_zip(self, request: Request) -> Reply:
        """Return all photos, in a folder for each class."""
        return download(archive.pieces(self._session), "application/zip", "photos.zip")

    @route("POST", "/v1/adapt", ("refine",), refuses=(400, 409))
    async def adapt(self, request: Request) -> Reply:
        """Adapt network and head to all photos; `refine` is off, auto or on."""
        (refine,) = await members_of(request, "refine")
        if refine is None:
            refine = "off"
        if refine not in get_args(Refine):
            raise UsageError(f"refine: give {', '.join(get_args(Refine))}.")
        self._session.adapt(refine)
        return await self._state()

    @route("DELETE", "/v1/adapt")
    async def cancel(self, request: Request) -> Reply:
        """Cancel adapting."""
        self._session.cancel()
        return await self._state()

    @route("GET", MODEL_FILE, gives=_BINARY, refuses=(409,))
    async def model_file(self, request: Request) -> Reply:
        """Return the personal model, for `classify --model`."""
        data = await asyncio.to_thread(self._session.with_saved, Path.read_bytes)
        return download(data, _BINARY, "personal.safetensors")

    @route("PUT", MODEL_FILE, "file", refuses=(400, 409, 422))
    async def open_model(self, request: Request) -> Reply:
        """Begin with a personal model."""
        data = await request.body()
        await asyncio.to_thread(self._open, data)
        return await self._state()

    @route("GET", "/v1/model/onnx", gives=_BINARY, refuses=(400, 409))
    async def onnx(self, request: Request) -> Reply:
        """Return the model in ONNX."""
        data = await asyncio.to_thread(self._session.with_saved, _export)
        return download(data, _BINARY, "personal.onnx")

    async def _edit(self, change: Callable[..., Change], *arguments: Any) -> Reply:
        await asyncio.to_thread(self._session.edit, change, *arguments)
        return await self._state()

    async def _state(self) -> Reply:
        return json_reply(await asyncio.to_thread(state_of, self._session))

    def _open(self, data: bytes) -> None:
        with tempfile.TemporaryDirectory(prefix="fewshot-lite-") as folder:
            file = Path(folder) / "opened.safetensors"
            file.write_bytes(data)
            try:
                self._session.open_model(file)
            except FewshotError as error:  # the user does not know the temporary file's name
                raise type(error)(str(error).replace(str(file), "The model")) from None


def _export(model: Path) -> bytes:
    from fewshot_lite.personal.export.writing import export_model

    return export_model(model, model.with_suffix(".onnx")).path.read_bytes()
