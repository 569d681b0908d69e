"""The state of the page: the board, the files of its photos, the model, and steps to undo.

Every method may be called from any thread. Changes of the board and of files are made at once. The
model is updated in a thread of its own, to all changes made in the meantime together.
"""

from __future__ import annotations

import contextlib
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from fewshot_lite.core.config import Refine
from fewshot_lite.core.errors import FewshotError
from fewshot_lite.core.progress import OnDone
from fewshot_lite.images.opening import PhotoError
from fewshot_lite.images.photo import load_square
from fewshot_lite.images.thumbnails import SIDE, thumbnail
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.personal.personal_model import PersonalModel
from fewshot_lite.serve.board import Board, Photo, check_class_name
from fewshot_lite.serve.edits import Change, counted
from fewshot_lite.serve.errors import Conflict, NotFound
from fewshot_lite.serve.journal import as_on_disk, read_steps, write_steps
from fewshot_lite.serve.learning import Learned, Learner, has_two_classes
from fewshot_lite.serve.resuming import KEPT, board_of, load_board, with_plain_names
from fewshot_lite.serve.steps import Added, Step, Work
from fewshot_lite.serve.uploads import Upload, photo_name
from fewshot_lite.serve.workspace import Move, Workspace, same_bytes

#: The most steps that can be undone.
_MOST_STEPS = 100
#: The most seconds between photos that are undone as one step.
_TOGETHER = 5.0


class _Cancelled(Exception):
    """Adapting was cancelled."""


class Session:
    """The state of a page."""

    def __init__(
        self,
        workspace: Workspace,
        base: Callable[[], MetaModel],
        *,
        device: str = "cpu",
    ) -> None:
        """Load the photos of a folder and its saved model.

        Args:
            workspace: the folder.
            base: returns the meta-trained model; called when it is first needed.
            device: the device of the saved model.

        Raises:
            FewshotError: the class folders cannot be read.
        """
        self.workspace = workspace
        self._learner = Learner(workspace.root, base)
        self._device = device
        self._numbers = count(1)
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._steps = read_steps(workspace)
        self._request: Refine | None = None
        self._cancel = False
        self._closing = False
        self._followed: Board | None = None
        self.run = secrets.token_hex(4)
        """Identifies this run of the program: photos have other numbers in another one."""
        self.revision = 0
        """Incremented with every change that the page shows."""
        self.work: Work | None = None
        self.problem: str | None = None
        """The reason why the model could not be updated, in one line."""
        self.board: Board
        self.learned: Learned | None
        self.board, self.learned = load_board(workspace, self._numbers, device)
        self._saved = self.learned
        self._thumbnails = self.learned.thumbnails() if self.learned else {}
        self._thread = threading.Thread(target=self._follow, name="learning", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Cancel any work, stop the thread and release the folder."""
        with self._changed:
            self._closing = self._cancel = True
            self._changed.notify_all()
        self._thread.join(timeout=10)
        self.workspace.close()

    @property
    def model(self) -> PersonalModel | None:
        """The model, if there are photos of two classes."""
        with self._lock:
            ready = has_two_classes(self.board)
            return self.learned.model if self.learned and ready else None

    @property
    def last_step(self) -> str | None:
        """The description of the step that `undo` would undo."""
        with self._lock:
            return self._steps[-1].what if self._steps else None

    def require_model(self) -> PersonalModel:
        """Return the model; raise Conflict if there is none yet."""
        model = self.model
        if model is None:
            if has_two_classes(self.board) and not self.problem:
                raise Conflict("The photos are being adapted to. Try again in some seconds.")
            raise Conflict(
                self.problem or "There is no model yet: it needs photos of two classes at least."
            )
        return model

    def thumbnail(self, number: int) -> bytes:
        """Return a small JPEG of a photo.

        Raises:
            NotFound: there is no such photo, or it has no picture.
        """
        with self._lock:
            (photo,) = self.board.by_numbers([number])
            jpeg = self._thumbnails.get(number)
        if jpeg is None and photo.path is not None:
            with contextlib.suppress(PhotoError):
                jpeg = self._thumbnails[number] = thumbnail(load_square(photo.path, 2 * SIDE))
        if jpeg is None:
            raise NotFound(f"{number}: there is no picture of this photo.")
        return jpeg

    def with_saved(self, use: Callable[[Path], bytes]) -> bytes:
        """Save the model to a temporary file and return the result of a function of it.

        Raises:
            Conflict: there is no model yet.
            FewshotError: as the function.
        """
        model = self.require_model()
        with tempfile.TemporaryDirectory(prefix="fewshot-lite-") as folder:
            file = Path(folder) / "personal.safetensors"
            with_plain_names(model).save(file)
            return use(file)

    def paused(self) -> AbstractContextManager[object]:
        """Return a context within which nothing changes."""
        return self._lock

    def settled(self, timeout: float | None = None) -> bool:
        """Wait until the model is up to date; return whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._has_work() and not self.work, timeout)

    def add_photos(self, label: str, uploads: Sequence[Upload]) -> list[Added]:
        """Add photos to a class; the results have the problem of those that were not added.

        Raises:
            NotFound: there is no such class.
        """
        with self._lock:
            self.board.check(label)
        return [self._add(label, upload) for upload in uploads]

    def _add(self, label: str, upload: Upload) -> Added:
        try:
            ending, jpeg = upload.inspect()
        except PhotoError as error:
            return Added(upload.name, problem=str(error))
        with self._lock:
            self.board.check(label)
            twin = next((p for p in self.board.photos if same_bytes(p.path, upload.data)), None)
            if twin is not None:
                return Added(upload.name, problem=f"it is there already, in {twin.label!r}")
            with self.workspace.recording() as moves:
                name = photo_name(upload.data, ending)
                path = self.workspace.write(label, name, upload.data)
            number = next(self._numbers)
            photo = Photo(number, label, path, self.workspace.name_of(path))
            self._thumbnails[number] = jpeg
            board = self.board.with_photos([photo])
            self._apply(Change(f"Added a photo to {label}", board), moves, label=label)
            return Added(upload.name, number)

    def edit(self, change: Callable[..., Change], *arguments: Any) -> None:
        """Change the board and its files by a function of `edits`, which may raise."""
        with self._lock:
            with self.workspace.recording() as moves:
                changed = change(self.board, self.workspace, *arguments)
            self._apply(changed, moves)

    def undo(self) -> str:
        """Undo the last step, and return its description.

        Raises:
            Conflict: there is no step.
            FewshotError: another program has changed the files.
        """
        with self._changed:
            if not self._steps:
                raise Conflict("There is nothing to undo.")
            step = self._steps[-1]
            self.workspace.undo(step.moves)
            self._steps.pop()
            if step.board is None:  # of an earlier run
                self.board = as_on_disk(self.board, self.workspace, step.kept, self._numbers)
                self._followed = None
            else:
                self.board, self.learned, self._followed = step.board, step.learned, None
            self._touch()
            self._write_kept()
            write_steps(self.workspace, self._steps)
            return step.what

    def adapt(self, refine: Refine = "off") -> None:
        """Request that network and head are adapted to all photos, in the thread.

        Raises:
            Conflict: adapting is under way already, or there are too few photos.
        """
        with self._changed:
            if self._request is not None:
                raise Conflict("Adapting is under way.")
            if not has_two_classes(self.board):
                raise Conflict("Adapting needs photos of two classes at least.")
            self._request, self._cancel = refine, False
            self._touch()

    def cancel(self) -> None:
        """Cancel the request of `adapt`."""
        with self._lock:
            self._cancel = True

    def open_model(self, file: Path) -> None:
        """Begin with the classes and photos of a personal model, which has no files of them.

        Raises:
            Conflict: the board has photos.
            FewshotError: no personal model, or one with class names that are not allowed.
        """
        model = PersonalModel.load(file, device=self._device)
        for label in model.class_names:
            check_class_name(label, model.class_names)
        with self._changed:
            if self.board.photos:
                raise Conflict(
                    "There are photos here already. Open the model in a page of its own: "
                    "fewshot-lite serve MODEL"
                )
            board, learned = board_of(model, self._numbers)
            with self.workspace.recording() as moves:
                for label in model.class_names:
                    self.workspace.make_class(label)
            self._apply(Change("Opened a model", board), moves)
            self.learned = learned

    def _apply(self, change: Change, moves: list[Move], *, label: str = "") -> None:
        """Set the board and add a step; photos added to a class in a row are one step."""
        now, last = time.monotonic(), self._steps[-1] if self._steps else None
        before, after = self.board, change.board
        step = Step(
            change.what,
            before,
            self.learned,
            moves,
            [photo.name for photo in before.photos if photo.kept],
            in_files=_without_files(before) == _without_files(after),
            label=label,
            time=now,
        )
        if label and last and last.board and last.label == label and now - last.time < _TOGETHER:
            self._steps.pop()
            what = f"Added {counted(len(after.photos) - len(last.board.photos))} to {label}"
            step = replace(last, what=what, moves=[*last.moves, *moves], time=now)
        self._steps = [*self._steps, step][-_MOST_STEPS:]
        self.board = after
        self._touch()
        if any(photo.kept for photo in (*before.photos, *after.photos)):
            self._write_kept()
        write_steps(self.workspace, self._steps)

    def _write_kept(self) -> None:
        self.workspace.write_json(KEPT, [p.name for p in self.board.photos if p.kept])

    def _touch(self) -> None:
        with self._changed:
            self.revision += 1
            self._changed.notify_all()

    def _has_work(self) -> bool:
        return self._request is not None or self._followed is not self.board

    def _follow(self) -> None:
        """Update the model whenever there is work, until the session is closed."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._has_work())
                if self._closing:
                    return
                board, before, request = self.board, self.learned, self._request
                self._followed = board
                what = "Learning" if request is None else "Adapting"
                self.work = Work(what, can_be_cancelled=request is not None)
            problem, learned = None, None
            try:
                learned = self._learn(board, before, request)
            except _Cancelled:
                pass
            except FewshotError as error:
                problem = str(error)
            with self._changed:
                self.problem, self.work = problem, None
                if request is not None:
                    self._request = None
                if learned is not None and self.learned is before:  # there was no undo
                    if request is not None and learned is not before:
                        step = Step("Adapted to all photos", self.board, before, of_model=True)
                        self._steps.append(step)
                        self._followed = None  # follow up with photos that were added meanwhile
                    self.learned = learned
                    self._thumbnails |= learned.thumbnails()
                self._touch()
            self._save()

    def _learn(
        self, board: Board, before: Learned | None, request: Refine | None
    ) -> Learned | None:
        if request is None:
            return self._learner.follow(before, board, self._counted("Learning"))
        return self._learner.adapt(
            board,
            refine=request,
            on_done=self._counted("Reading photos", cancel=True),
            on_embedded=self._counted("Adapting", cancel=True),
            on_fold=self._counted("Refining", cancel=True),
        )

    def _counted(self, what: str, *, cancel: bool = False) -> OnDone:
        def count(done: int, total: int) -> None:
            with self._changed:
                if self._closing or (cancel and self._cancel):
                    raise _Cancelled
                rest = Work("Adapting", can_be_cancelled=cancel)  # after all photos are read
                self.work = Work(what, done, total, cancel) if done < total else rest
                self._touch()

        return count

    def _save(self) -> None:
        """Save the model for the next run, so that features need not be computed again."""
        learned = self.learned
        if learned is None or learned is self._saved:
            return
        try:
            learned.model.save(self.workspace.model_file, force=True, backup=False)
        except FewshotError as error:
            self.problem = str(error)
            self._touch()
        else:
            self._saved = learned


def _without_files(board: Board) -> list[tuple[str, str]]:
    """Return class and name of each photo without a file."""
    return [(photo.label, photo.name) for photo in board.photos if photo.path is None]
