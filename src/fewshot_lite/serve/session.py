"""The page's state: a board, the files of its photos, the model that follows, and what to undo.

Every method may be called from any thread. Changes of the board and of files are made at once;
the model follows in a thread of its own, which takes all changes that came meanwhile together.
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
from fewshot_lite.serve.learning import Learned, Learner, enough
from fewshot_lite.serve.resuming import KEPT, board_of, take_up, with_names
from fewshot_lite.serve.steps import Added, Step, Work
from fewshot_lite.serve.uploads import Upload, photo_name
from fewshot_lite.serve.workspace import Move, Workspace, same_bytes

#: Steps that can be taken back.
_STEPS = 100
#: Seconds within which photos that come one by one are one step.
_TOGETHER = 5.0


class _Cancelled(Exception):
    """Adapting was called off."""


class Session:
    """A page's state."""

    def __init__(
        self,
        workspace: Workspace,
        base: Callable[[], MetaModel],
        *,
        device: str = "cpu",
    ) -> None:
        """Take up what is in a folder, its saved model included.

        Args:
            workspace: the folder.
            base: gives the meta-trained model; it is called when photos are first adapted to.
            device: where the saved model is to run.

        Raises:
            FewshotError: a folder that class folders cannot be read from.
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
        """Tells this start from others, whose photos had other numbers."""
        self.revision = 0
        """Counts up with every change of what a page shows."""
        self.work: Work | None = None
        self.problem: str | None = None
        """Why the model does not follow, in one line."""
        self.board: Board
        self.learned: Learned | None
        self.board, self.learned = take_up(workspace, self._numbers, device)
        self._saved = self.learned
        self._thumbnails = self.learned.thumbnails() if self.learned else {}
        self._thread = threading.Thread(target=self._follow, name="learning", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop; what is under way is called off."""
        with self._changed:
            self._closing = self._cancel = True
            self._changed.notify_all()
        self._thread.join(timeout=10)
        self.workspace.close()

    # What is there

    @property
    def model(self) -> PersonalModel | None:
        """The model, if the photos are enough for one."""
        with self._lock:
            return self.learned.model if self.learned and enough(self.board) else None

    @property
    def last_step(self) -> str | None:
        """What `undo` would take back."""
        with self._lock:
            return self._steps[-1].what if self._steps else None

    def require_model(self) -> PersonalModel:
        """The model.

        Raises:
            Conflict: there is none yet.
        """
        model = self.model
        if model is None:
            if enough(self.board) and not self.problem:
                raise Conflict("The photos are being adapted to. Try again in some seconds.")
            raise Conflict(
                self.problem or "There is no model yet: it needs photos of two classes at least."
            )
        return model

    def thumbnail(self, number: int) -> bytes:
        """A small JPEG of a photo.

        Raises:
            NotFound: there is no such photo, or it has no picture.
        """
        with self._lock:
            (photo,) = self.board.chosen([number])
            jpeg = self._thumbnails.get(number)
        if jpeg is None and photo.path is not None:
            with contextlib.suppress(PhotoError):
                jpeg = self._thumbnails[number] = thumbnail(load_square(photo.path, 2 * SIDE))
        if jpeg is None:
            raise NotFound(f"{number}: there is no picture of this photo.")
        return jpeg

    def with_saved(self, use: Callable[[Path], bytes]) -> bytes:
        """What a function makes of the model's file, as `adapt` writes it.

        Raises:
            Conflict: there is no model yet.
            FewshotError: as the function.
        """
        model = self.require_model()
        with tempfile.TemporaryDirectory(prefix="fewshot-lite-") as folder:
            file = Path(folder) / "personal.safetensors"
            with_names(model).save(file)
            return use(file)

    def paused(self) -> AbstractContextManager[object]:
        """While entered, nothing changes."""
        return self._lock

    def settled(self, timeout: float | None = None) -> bool:
        """Wait until the model follows the board; whether it does."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._has_work() and not self.work, timeout)

    # Changes

    def add_photos(self, label: str, uploads: Sequence[Upload]) -> list[Added]:
        """Add photos to a class; those that cannot be read come back with the reason.

        Raises:
            NotFound: there is no such class.
        """
        with self._lock:
            self.board.check(label)
        return [self._add(label, upload) for upload in uploads]

    def _add(self, label: str, upload: Upload) -> Added:
        try:
            ending, jpeg = upload.look()
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
            self._take(Change(f"Added a photo to {label}", board), moves, label=label)
            return Added(upload.name, number)

    def edit(self, change: Callable[..., Change], *arguments: Any) -> None:
        """Change the board and its files by one of `edits`.

        Raises:
            UsageError, FewshotError: as it does.
        """
        with self._lock:
            with self.workspace.recording() as moves:
                changed = change(self.board, self.workspace, *arguments)
            self._take(changed, moves)

    def undo(self) -> str:
        """Take the last step back, and say what it was.

        Raises:
            Conflict: there is none.
            FewshotError: files were changed by others.
        """
        with self._changed:
            if not self._steps:
                raise Conflict("There is nothing to undo.")
            step = self._steps[-1]
            self.workspace.undo(step.moves)
            self._steps.pop()
            if step.board is None:  # of an earlier start
                self.board = as_on_disk(self.board, self.workspace, step.kept, self._numbers)
                self._followed = None
            else:
                self.board, self.learned, self._followed = step.board, step.learned, None
            self._touch()
            self._write_kept()
            write_steps(self.workspace, self._steps)
            return step.what

    def adapt(self, refine: Refine = "off") -> None:
        """Ask for adapting to all photos, network and head; it is done in the thread.

        Raises:
            Conflict: it is under way, or there is too little to adapt to.
        """
        with self._changed:
            if self._request is not None:
                raise Conflict("Adapting is under way.")
            if not enough(self.board):
                raise Conflict("Adapting needs photos of two classes at least.")
            self._request, self._cancel = refine, False
            self._touch()

    def cancel(self) -> None:
        """Call off what `adapt` asked for."""
        with self._lock:
            self._cancel = True

    def open_model(self, file: Path) -> None:
        """Begin with the classes and photos of a personal model, which has no files of them.

        Raises:
            Conflict: there are photos here.
            FewshotError: no personal model, or one with class names that will not do.
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
            self._take(Change("Opened a model", board), moves)
            self.learned = learned

    # Inside

    def _take(self, change: Change, moves: list[Move], *, label: str = "") -> None:
        """Take over a changed board; photos that come to a class one by one are one step."""
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
        self._steps = [*self._steps, step][-_STEPS:]
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
        """The model's thread."""
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
                if learned is not None and self.learned is before:  # no undo meanwhile
                    if request is not None and learned is not before:
                        step = Step("Adapted to all photos", self.board, before, of_model=True)
                        self._steps.append(step)
                        self._followed = None  # photos that came meanwhile
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
                rest = Work("Adapting", can_be_cancelled=cancel)  # once all photos are read
                self.work = Work(what, done, total, cancel) if done < total else rest
                self._touch()

        return count

    def _save(self) -> None:
        """Keep the model, so that what it knows need not be computed again."""
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
    """Class and name of each photo that a model knows by its features alone."""
    return [(photo.label, photo.name) for photo in board.photos if photo.path is None]
