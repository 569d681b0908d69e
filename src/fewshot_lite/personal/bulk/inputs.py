"""Which files to classify: found as they are needed, never listed as a whole."""

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
    """Photos and videos as given, and those of folders, in order.

    Args:
        paths: photos and folders; a folder's photos come sorted by name, folder by folder.
        leave_out: files and folders that are passed over inside folders (what this run writes, for
            one), and that come back as `Skipped` where they are given themselves.

    Yields:
        A photo, or a file or folder that cannot be one with the reason.
    """
    apart = frozenset(os.path.realpath(path) for path in leave_out)
    names = frozenset(os.path.basename(path) for path in apart)  # noqa: PTH119
    for path in paths:
        if _is_below(path, apart):
            yield Skipped(path, "written by this run, or in the folder that it sorts into")
            continue
        if not os.path.isdir(path):  # noqa: PTH112  # Path.is_dir raises where one may not look
            yield path
            continue
        empty = True
        for photo, problem in walk_photos(path, leave_out=apart, videos=True):
            if photo.name in names and os.path.realpath(photo) in apart:
                continue
            empty = empty and problem in NOT_ASKED_FOR
            yield photo if problem is None else Skipped(photo, problem)
        if empty:
            yield Skipped(path, "no photos in this folder")


def _is_below(path: Path, apart: Collection[str]) -> bool:
    real = os.path.realpath(path) if apart else ""
    return any(real == other or real.startswith(other + os.sep) for other in apart)


def read_paths(stream: BufferedIOBase, *, null: bool = False) -> Iterator[Path]:
    """Paths from a stream, one a line, as they come.

    Args:
        stream: bytes, e.g. `sys.stdin.buffer`.
        null: they are separated by NUL, as `find -print0` writes them, instead.

    Raises:
        FewshotError: no paths, or bytes that are none.
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
            block = stream.read1(65_536)  # what there is: a slow writer is not waited for
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
