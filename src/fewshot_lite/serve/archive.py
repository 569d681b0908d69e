"""All photos as class folders in one ZIP archive, made as it is sent: never whole in memory."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator

from fewshot_lite.personal.bulk.sorting import folder_names
from fewshot_lite.serve.board import Photo
from fewshot_lite.serve.errors import Conflict, NotFound
from fewshot_lite.serve.session import Session

#: Bytes that are read at a time, and of a piece that is sent.
_PIECE = 1_000_000
#: Where the archive names photos that could not be read.
_NOT_READ = "not read.txt"


class _Pipe(io.RawIOBase):
    """Takes what is written until it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._parts.append(bytes(data))
        return len(data)

    def taken(self) -> bytes:
        """What was written since it was last asked."""
        found, self._parts = b"".join(self._parts), []
        return found


def pieces(session: Session) -> Iterator[bytes]:
    """The archive in pieces.

    A photo that is moved meanwhile is found where it is; one that is removed is left out.

    Raises:
        Conflict: there are no photos, before there is a piece.
    """
    photos = [photo for photo in session.board.photos if photo.path]
    if not photos:
        raise Conflict("There are no photos here to download.")
    return _pieces(session, photos)


def _pieces(session: Session, photos: list[Photo]) -> Iterator[bytes]:
    homes = folder_names(session.board.classes)
    pipe, taken, unread = _Pipe(), set[str](), list[str]()
    with zipfile.ZipFile(pipe, "w") as archive:  # photos are compressed as they are
        for photo in photos:
            assert photo.path is not None
            name = f"{homes[photo.label]}/{photo.path.name}"
            while name in taken:
                name = name.replace("/", "/_", 1)
            taken.add(name)
            try:
                (now,) = session.board.chosen([photo.number])
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
                    yield pipe.taken()
        if unread:
            archive.writestr(_NOT_READ, "\n".join(unread))
    yield pipe.taken()
