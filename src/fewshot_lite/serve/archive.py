"""All photos in one ZIP archive of class folders, streamed while it is made."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator

from fewshot_lite.personal.bulk.sorting import folder_names
from fewshot_lite.serve.board import Photo
from fewshot_lite.serve.errors import Conflict, NotFound
from fewshot_lite.serve.session import Session

#: The bytes that are read and sent at a time.
_PIECE = 1_000_000
#: The archive's list of photos that could not be read.
_NOT_READ = "not read.txt"


class _Pipe(io.RawIOBase):
    """A file that keeps what is written until it is taken."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._parts.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        """Return what was written since the last call."""
        taken, self._parts = b"".join(self._parts), []
        return taken


def pieces(session: Session) -> Iterator[bytes]:
    """Return an iterator over the pieces of the archive.

    Photos that are moved in the meantime are read from their new place, removed ones left out.

    Raises:
        Conflict: there are no photos.
    """
    photos = [photo for photo in session.board.photos if photo.path]
    if not photos:
        raise Conflict("There are no photos here to download.")
    return _pieces(session, photos)


def _pieces(session: Session, photos: list[Photo]) -> Iterator[bytes]:
    folders = folder_names(session.board.classes)
    pipe, used, unread = _Pipe(), set[str](), list[str]()
    with zipfile.ZipFile(pipe, "w") as archive:  # stored, as photos are compressed already
        for photo in photos:
            assert photo.path is not None
            name = f"{folders[photo.label]}/{photo.path.name}"
            while name in used:
                name = name.replace("/", "/_", 1)
            used.add(name)
            try:
                (now,) = session.board.by_numbers([photo.number])
                assert now.path is not None
                source = now.path.open("rb")
            except NotFound:
                continue
            except OSError as error:
                unread.append(f"{name}: {error.strerror or error}")
                continue
            with source, archive.open(name, "w") as entry:
                while piece := source.read(_PIECE):
                    entry.write(piece)
                    yield pipe.take()
        if unread:
            archive.writestr(_NOT_READ, "\n".join(unread))
    yield pipe.take()
