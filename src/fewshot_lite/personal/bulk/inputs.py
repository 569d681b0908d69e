"""Find the files to classify, lazily: they are never listed as a whole."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from io import BufferedIOBase
from pathlib import Path

from fewshot_lite.core.errors import FewshotError
from fewshot_lite.images.folders import Skipped, walk_photos
from fewshot_lite.images.kinds import NOT_ASKED_FOR

#: Bytes; no system takes paths of this length.
_LONGEST_PATH = 32_768


def find_photos(
    paths: Iterable[Path], *, leave_out: Collection[Path] = ()
) -> Iterator[Path | Skipped]:
    """Yield the photos and videos that were given, and those in folders, in order.

    Args:
        paths: photos and folders; a folder's photos come sorted by name, folder by folder.
        leave_out: files and folders, such as those that this run writes, to leave out of folders;
            given themselves, they come back as `Skipped`.

    Yields:
        A photo; or a file or folder without one, with the reason.
    """
    excluded = frozenset(os.path.realpath(path) for path in leave_out)
    names = frozenset(os.path.basename(path) for path in excluded)  # noqa: PTH119
    for path in paths:
        real = os.path.realpath(path) if excluded else ""
        if any(real == other or real.startswith(other + os.sep) for other in excluded):
            yield Skipped(path, "written by this run, or in the folder that it sorts into")
            continue
        if not os.path.isdir(path):
            yield path
            continue
        empty = True
        for photo, problem in walk_photos(path, leave_out=excluded, videos=True):
            if photo.name in names and os.path.realpath(photo) in excluded:
                continue
            empty = empty and problem in NOT_ASKED_FOR
            yield photo if problem is None else Skipped(photo, problem)
        if empty:
            yield Skipped(path, "no photos in this folder")


def read_paths(stream: BufferedIOBase, *, null: bool = False) -> Iterator[Path]:
    """Yield paths from a stream, one a line, as they arrive.

    Args:
        stream: bytes, e.g. `sys.stdin.buffer`.
        null: paths are separated by NUL, as `find -print0` writes them, not by lines.

    Raises:
        FewshotError: no paths, or bytes that are no path.
    """
    number = 0
    for raw in _records(stream, b"\0" if null else b"\n"):
        if not null:
            raw = raw.removesuffix(b"\r")
            if b"\0" in raw:
                raise FewshotError(
                    f"stdin: a NUL byte after {number} paths. Give one path a line, or add --null "
                    "for paths that are separated by NUL."
                )
        if not raw:
            continue
        number += 1
        try:
            yield Path(os.fsdecode(raw))
        except UnicodeDecodeError:  # Windows: elsewhere any bytes are a name
            raise FewshotError(f"stdin: path {number} is not valid UTF-8.") from None
    if number == 0:
        raise FewshotError(
            "stdin: no paths came. Pipe some in: find photos -name '*.jpg' | fewshot-lite classify "
            "-"
        )


def _records(stream: BufferedIOBase, separator: bytes) -> Iterator[bytes]:
    rest = b""
    while True:
        try:
            block = stream.read1(65_536)  # returns what there is, without waiting for more
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise FewshotError(f"stdin: cannot be read ({str(reason).lower()}).") from None
        if not block:
            break
        *whole, rest = (rest + block).split(separator)
        yield from whole
        if len(rest) > _LONGEST_PATH:
            raise FewshotError(
                "stdin: longer than any path, without a separator. Give one path a line, or add "
                "--null for paths that are separated by NUL."
            )
    yield rest
