"""Watch folders for new photos, by polling."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from fewshot_lite.images.folders import Skipped, walk_photos

#: Seconds since a file was written after which the first look takes it for complete.
_OLD = 60.0


class Watcher:
    """Yields each photo once, when it is no longer being written.

    A photo is complete when its size and time are those of the look before; at the first look, when
    it is a minute old. A photo that is replaced later is another photo. Files without a photo's
    extension are ignored: they may be downloads under way. About 100 bytes are kept of each photo.
    """

    def __init__(self, folders: Iterable[Path], *, leave_out: Collection[Path] = ()) -> None:
        """Prepare to watch.

        Args:
            folders: searched with all that is below them.
            leave_out: folders in them to ignore.
        """
        self._folders = tuple(folders)
        self._leave_out = frozenset(os.path.realpath(path) for path in leave_out)
        self._seen: set[int] = set()
        self._growing: dict[Path, tuple[int, int]] = {}
        self._old: float | None = None

    def look(self) -> Iterator[Path | Skipped]:
        """Yield the files that were completed since the last look, folder by folder, by name."""
        before, self._growing = self._growing, {}
        old = time.time() - _OLD if self._old is None else self._old
        self._old = 0.0
        for folder in self._folders:
            for path, problem in walk_photos(folder, leave_out=self._leave_out, videos=True):
                if problem is not None:
                    if not os.path.isfile(path) and self._is_new(path, problem):
                        yield Skipped(path, problem)  # a folder that cannot be entered
                    continue
                try:
                    status = os.stat(path)  # noqa: PTH116
                except OSError:  # gone again, or a broken link
                    continue
                state = (status.st_mtime_ns, status.st_size)
                if hash((path, state)) in self._seen:
                    continue
                if before.get(path) == state or status.st_mtime < old:
                    self._is_new(path, state)
                    yield path
                else:
                    self._growing[path] = state

    def _is_new(self, path: Path, state: object) -> bool:
        key = hash((path, state))  # 64 bits: of a million photos, two share one in 10^7 cases
        new = key not in self._seen
        self._seen.add(key)
        return new
