"""A served personal model to which photos can be added. Torch is imported when the first one is.

Photos are added as by `fewshot-lite add MODEL --force`: the head is fitted anew, the file is
replaced as a whole, and the previous one is kept for `undo`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.images.bit_depths import recorded_whites
from fewshot_lite.personal.classifier import PhotoClassifier
from fewshot_lite.personal.loading import open_personal
from fewshot_lite.serve.bodies import photos_of
from fewshot_lite.serve.classifying import about
from fewshot_lite.serve.errors import Conflict, NotFound
from fewshot_lite.serve.replies import Reply, json_reply
from fewshot_lite.serve.routes import Handlers, Query, route
from fewshot_lite.serve.uploads import Upload

if TYPE_CHECKING:
    from starlette.requests import Request

    from fewshot_lite.personal.personal_model import PersonalModel

_CREATE = Query(
    "create", "`true` makes the class if there is none of this name.", {"type": "boolean"}
)


class GrowingModel:
    """A model and its file. Methods may be called from any thread."""

    def __init__(self, path: Path, *, workers: int = 1) -> None:
        """Read the model.

        Args:
            path: a personal model or its export.
            workers: the number of processes that serve it; only a single one can change it.

        Raises:
            UsageError, FewshotError: as `open_personal`.
        """
        self.path = path
        self.model: PhotoClassifier = open_personal(path)
        self._workers = workers
        self._changing = threading.Lock()
        self._personal: PersonalModel | None = None
        self._stamp: tuple[int, ...] = ()

    def add(
        self, label: str, uploads: Sequence[Upload], *, create: bool = False
    ) -> list[str | None]:
        """Add photos to a class and write the file; return the problem of each photo, or None.

        Args:
            create: whether the class may be new.

        Raises:
            NotFound: there is no such class.
            Conflict: this model cannot be changed.
            UsageError: the class's name is not allowed.
        """
        self._check_may_change()
        with self._changing:
            personal = self._read()
            if label not in personal.class_names and not create:
                raise NotFound(
                    f"{label!r}: there is no such class. `?create=true` makes one of this name."
                )
            changed, problems = _add(personal, label, uploads)
            if changed is not None:
                self._write(changed)
            return problems

    def undo(self) -> None:
        """Restore the file before the last change.

        Raises:
            Conflict: there is nothing to undo, or this model cannot be changed.
        """
        from fewshot_lite.personal.undo import undo

        self._check_may_change()
        with self._changing:
            try:
                undo(self.path)
            except FewshotError as error:
                raise Conflict(str(error)) from None
            self.model = self._read()

    def _check_may_change(self) -> None:
        if self._workers > 1:
            raise Conflict(
                f"{self._workers} processes serve this model, and none sees what another one "
                "changes. Serve it with --workers 1 to add photos."
            )
        if self.path.suffix.lower() == ".onnx":
            raise Conflict(
                "An exported model cannot be changed. Serve the .safetensors file that it was "
                "exported from."
            )

    def _read(self) -> PersonalModel:
        """Return the model of the file, reading it if others have changed it."""
        from fewshot_lite.personal.personal_model import PersonalModel

        if self._personal is None or self._stamp != _stamp(self.path):
            stamp = _stamp(self.path)
            self._personal, self._stamp = PersonalModel.load(self.path).accelerate(), stamp
        return self._personal

    def _write(self, personal: PersonalModel) -> None:
        try:
            personal.save(self.path, force=True)
        except FewshotError as error:
            mend = "Serve a copy in a folder that you may write to."
            raise Conflict(f"The model cannot be written: {error.problem} {mend}") from None
        self.model = self._personal = personal
        self._stamp = _stamp(self.path)


def _stamp(path: Path) -> tuple[int, ...]:
    """Return numbers that differ if a file was changed or replaced."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _add(
    personal: PersonalModel, label: str, uploads: Sequence[Upload]
) -> tuple[PersonalModel | None, list[str | None]]:
    """Return the model with added photos, None if there are none, and the problem of each photo."""
    from fewshot_lite.personal.editing.adding import add_placed
    from fewshot_lite.personal.editing.arranging import Placed
    from fewshot_lite.personal.editing.edits import NothingNew, check_photos_may_change
    from fewshot_lite.personal.embedding import embed_photos
    from fewshot_lite.serve.board import check_new_name

    try:
        check_photos_may_change(personal)
    except UsageError as error:
        raise Conflict(str(error)) from None
    if label not in personal.class_names:
        check_new_name(label, personal.class_names)
    embedded = embed_photos(personal, uploads, recorded_whites(personal.provenance))
    problems = [one if isinstance(one, str) else None for one in embedded]
    read = {
        str(i): Placed(label, f"{label}/{uploads[i].name}", one)
        for i, one in enumerate(embedded)
        if not isinstance(one, str)
    }
    if not read:
        return None, problems
    try:
        edit = add_placed(personal, list(read.values()), list(read))
    except NothingNew:
        return None, [why or "it is in the model already" for why in problems]
    for twin in edit.duplicates:
        problems[int(twin.path)] = f"it is in the model already, in {twin.label!r}"
    return edit.model.accelerate(personal), problems


class Growing(Handlers):
    """Handlers that change a served model."""

    def __init__(self, model: GrowingModel) -> None:
        self._model = model
        self._turn = asyncio.Lock()  # waiting in threads would take those that classify

    @route(
        "POST",
        "/v1/classes/{name}/photos",
        "photos",
        query=(_CREATE,),
        refuses=(400, 404, 409, 422),
    )
    async def add(self, request: Request) -> Reply:
        """Add photos to a class of the model: one as the body, or several as files of a form.

        The reply has the result for each photo, and the model; 422 if none was added.
        """
        label, create = request.path_params["name"], request.query_params.get("create", "false")
        if create not in ("true", "false"):
            raise UsageError(f"create={create[:20]!r}: give true or false.")
        uploads = await photos_of(request)
        async with self._turn:
            problems = await asyncio.to_thread(
                self._model.add, label, uploads, create=create == "true"
            )
        photos = [
            {"name": upload.name, "problem": problem}
            for upload, problem in zip(uploads, problems, strict=True)
        ]
        reply: dict[str, Any] = {"photos": photos, "model": about(self._model.model)}
        return json_reply(reply, 422 if all(problems) else 200)

    @route("POST", "/v1/undo", refuses=(409,))
    async def undo(self, request: Request) -> Reply:
        """Undo the last change of the model's file."""
        async with self._turn:
            await asyncio.to_thread(self._model.undo)
        return json_reply(about(self._model.model))
