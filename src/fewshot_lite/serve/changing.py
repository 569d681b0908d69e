"""The part of the API that changes classes and photos, and hands models in and out."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewshot_lite.core.config import Refine
from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.serve import archive, edits
from fewshot_lite.serve.bodies import members_of, photos_of, text, whole_numbers
from fewshot_lite.serve.edits import Change
from fewshot_lite.serve.errors import NotFound
from fewshot_lite.serve.replies import Reply, download, json_reply
from fewshot_lite.serve.routes import Query, Route
from fewshot_lite.serve.session import Session
from fewshot_lite.serve.state import state_of

if TYPE_CHECKING:
    from starlette.requests import Request

#: Where a model is opened and saved; its bodies may be larger.
MODEL_FILE = "/v1/model/file"
_SINCE = Query("since", "RUN.REVISION of a state; 204 if it is still that one.", {"type": "string"})
_REFINE: tuple[Refine, ...] = ("off", "auto", "on")


class Changing:
    """Handlers around a session. Each that changes something answers with the new state."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def routes(self) -> list[Route]:
        """What it answers to."""
        state = Route("GET", "/v1/session", self.state, "Classes, photos, model.", query=(_SINCE,))
        undo = Route("POST", "/v1/undo", self.undo, "Take the last change back.", refuses=(409,))
        return [state, undo, *self._of_classes(), *self._of_photos(), *self._of_model()]

    def _of_classes(self) -> list[Route]:
        path = "/v1/classes/{name}"
        return [
            Route("POST", "/v1/classes", self.create, "A new class.", ("name",), refuses=(400,)),
            Route(
                "PATCH",
                path,
                self.rename,
                "Rename a class, or put its photos `into` another one.",
                ("name", "into"),
                refuses=(400, 404),
            ),
            Route("DELETE", path, self.remove_class, "Remove a class.", refuses=(404,)),
            Route(
                "POST",
                f"{path}/photos",
                self.add,
                "Add photos to a class: one as the body, or several as files of a form.",
                "photos",
                refuses=(400, 404, 422),
            ),
        ]

    def _of_photos(self) -> list[Route]:
        path, refuses = "/v1/photos", (400, 404)
        keep = "Say that photos are in the right class."
        move = "Put photos into another class."
        return [
            Route("POST", f"{path}/move", self.move, move, ("numbers", "name"), refuses=refuses),
            Route(
                "POST",
                f"{path}/remove",
                self.remove,
                "Remove photos.",
                ("numbers",),
                refuses=refuses,
            ),
            Route("POST", f"{path}/keep", self.keep, keep, ("numbers",), refuses=refuses),
            Route(
                "GET",
                f"{path}/{{number}}/picture",
                self.picture,
                "A photo, small.",
                gives="image/jpeg",
                refuses=(404,),
            ),
            Route(
                "GET",
                f"{path}.zip",
                self.photos_zip,
                "All photos, in a folder for each class.",
                gives="application/zip",
                refuses=(409,),
            ),
        ]

    def _of_model(self) -> list[Route]:
        file = "application/octet-stream"
        adapt = "Adapt network and head to all photos; `refine` is off, auto or on."
        saved = "The personal model, for `classify --model`."
        return [
            Route("POST", "/v1/adapt", self.adapt, adapt, ("refine",), refuses=(400, 409)),
            Route("DELETE", "/v1/adapt", self.cancel, "Call it off."),
            Route("GET", MODEL_FILE, self.model_file, saved, gives=file, refuses=(409,)),
            Route(
                "PUT",
                MODEL_FILE,
                self.open_model,
                "Begin with a personal model.",
                "file",
                refuses=(400, 409, 422),
            ),
            Route(
                "GET",
                "/v1/model/onnx",
                self.onnx,
                "The model in ONNX.",
                gives=file,
                refuses=(400, 409),
            ),
        ]

    async def state(self, request: Request) -> Reply:
        """All that the page shows."""
        if request.query_params.get("since") == f"{self._session.run}.{self._session.revision}":
            return Reply(b"", "application/json", 204)
        return await self._state()

    async def create(self, request: Request) -> Reply:
        """A new class."""
        (name,) = await members_of(request, "name")
        return await self._edit(edits.create_class, text(name, "name"))

    async def rename(self, request: Request) -> Reply:
        """A class renamed or merged."""
        old = request.path_params["name"]
        new, into = await members_of(request, "name", "into")
        if (new is None) == (into is None):
            raise UsageError("Give name, to rename the class, or into, to merge it: one of them.")
        if into is not None:
            return await self._edit(edits.merge_classes, old, text(into, "into"))
        return await self._edit(edits.rename_class, old, text(new, "name"))

    async def remove_class(self, request: Request) -> Reply:
        """A class gone."""
        return await self._edit(edits.remove_class, request.path_params["name"])

    async def add(self, request: Request) -> Reply:
        """What became of each photo, and the state; 422 if none could be read."""
        label, uploads = request.path_params["name"], await photos_of(request)
        added = await asyncio.to_thread(self._session.add_photos, label, uploads)
        photos = [
            {"name": item.name, "number": item.number, "problem": item.problem} for item in added
        ]
        status = 200 if any(item.number is not None for item in added) else 422
        return json_reply({"photos": photos, "state": state_of(self._session)}, status)

    async def move(self, request: Request) -> Reply:
        """Photos in another class."""
        numbers, name = await members_of(request, "numbers", "name")
        numbers = whole_numbers(numbers, "numbers")
        return await self._edit(edits.move_photos, numbers, text(name, "name"))

    async def remove(self, request: Request) -> Reply:
        """Photos gone."""
        (numbers,) = await members_of(request, "numbers")
        return await self._edit(edits.remove_photos, whole_numbers(numbers, "numbers"))

    async def keep(self, request: Request) -> Reply:
        """Photos beyond doubt."""
        (numbers,) = await members_of(request, "numbers")
        return await self._edit(edits.keep_photos, whole_numbers(numbers, "numbers"))

    async def picture(self, request: Request) -> Reply:
        """A small JPEG."""
        number = request.path_params["number"]
        if not (number.isascii() and number.isdigit()):
            raise NotFound("There is no photo of this number.")
        jpeg = await asyncio.to_thread(self._session.thumbnail, int(number[:15]))
        return Reply(jpeg, "image/jpeg")

    async def undo(self, request: Request) -> Reply:
        """The state before the last change."""
        await asyncio.to_thread(self._session.undo)
        return await self._state()

    async def adapt(self, request: Request) -> Reply:
        """Adapting asked for."""
        (refine,) = await members_of(request, "refine")
        refine = "off" if refine is None else refine
        if refine not in _REFINE:
            raise UsageError(f"refine: give {', '.join(_REFINE)}.")
        self._session.adapt(refine)
        return await self._state()

    async def cancel(self, request: Request) -> Reply:
        """Adapting called off."""
        self._session.cancel()
        return await self._state()

    async def model_file(self, request: Request) -> Reply:
        """A file as `adapt` writes it."""
        data = await asyncio.to_thread(self._session.with_saved, Path.read_bytes)
        return download(data, "application/octet-stream", "personal.safetensors")

    async def onnx(self, request: Request) -> Reply:
        """A file as `export` writes it."""
        data = await asyncio.to_thread(self._session.with_saved, _exported)
        return download(data, "application/octet-stream", "personal.onnx")

    async def open_model(self, request: Request) -> Reply:
        """The state with a model's classes."""
        data = await request.body()
        await asyncio.to_thread(self._opened, data)
        return await self._state()

    async def photos_zip(self, request: Request) -> Reply:
        """Class folders in one file."""
        return download(archive.pieces(self._session), "application/zip", "photos.zip")

    async def _edit(self, change: Callable[..., Change], *arguments: Any) -> Reply:
        await asyncio.to_thread(self._session.edit, change, *arguments)
        return await self._state()

    async def _state(self) -> Reply:
        return json_reply(await asyncio.to_thread(state_of, self._session))

    def _opened(self, data: bytes) -> None:
        with tempfile.TemporaryDirectory(prefix="fewshot-lite-") as folder:
            file = Path(folder) / "opened.safetensors"
            file.write_bytes(data)
            try:
                self._session.open_model(file)
            except FewshotError as error:  # it is no file of the user's that has this name
                raise type(error)(str(error).replace(str(file), "The model")) from None


def _exported(model: Path) -> bytes:
    from fewshot_lite.personal.export.writing import export_model

    return export_model(model, model.with_suffix(".onnx")).path.read_bytes()
