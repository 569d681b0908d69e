"""Cache of resized images on disk, raw uint8 with an index, so that later runs decode nothing.

    FOLDER/birds-224px-3f2a9c1e.json             the index
    FOLDER/birds-224px-3f2a9c1e-77d0e4b1.uint8   (N, 3, 224, 224)

The first hash is of the data set's location and classes, the second of its files' names, sizes and
modification times; a data set that changed is read again. Both files are written atomically, the
index last. One run builds while others wait; on systems without locks they build the same files
concurrently, and the last ones stay.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.files import atomic_path, check_writable, failing_as
from fewshot_lite.images.decoding import decode_pixels
from fewshot_lite.images.folders import LabelledImages

#: Incremented when decoding or the format changes.
_FORMAT = 1
#: Images decoded at a time, and images whose checksums are verified when a file is opened.
_CHUNK, _VERIFIED = 256, 64

Notify = Callable[[str], None]


@dataclass(frozen=True)
class CachedImages:
    """Images in a file: uint8 (images, 3, size, size)."""

    file: Path
    images: int
    size: int
    problems: dict[int, str]
    """Position of an unreadable image, which is black -> reason."""


def check_cache_folder(folder: Path) -> None:
    """Create the cache folder before the work begins; raise UsageError if that is impossible."""
    home = folder if os.path.lexists(folder) else folder.absolute().parent
    check_writable(home, f"--cache {folder}")
    with failing_as(f"--cache {folder}", "cannot be made", UsageError):
        folder.mkdir(exist_ok=True)


def cached_images(
    folder: Path,
    data: LabelledImages,
    size: int,
    *,
    on_done: Callable[[int], None] | None = None,
    notify: Notify | None = None,
) -> CachedImages:
    """Return the cached images of a data set, after decoding and caching them if necessary.

    Args:
        folder: the cache.
        data: the data set.
        size: side of the images in pixels.
        on_done: called with the number of photos decoded, if any have to be.
        notify: called with the reason why an existing cache file was not used.

    Raises:
        FewshotError: the cache cannot be written; no partial files are left.
    """
    entry = _Entry(folder, data, size)
    notify = notify or (lambda notice: None)
    try:
        cached = entry.open()
        if isinstance(cached, CachedImages):
            return cached
        waits = f"--cache {folder}: another process builds {entry.stem}; waiting for it."
        with _lock(folder / f"{entry.stem}.lock", lambda: notify(waits)) as locked:
            cached = entry.open()  # the other process may have built it
            if isinstance(cached, CachedImages):
                return cached
            if cached:
                notify(f"--cache {folder}: {entry.stem}: {cached}; read anew.")
            for partial in folder.glob(f"{entry.part}*") if locked else ():  # of a killed run
                partial.unlink(missing_ok=True)
            return entry.build(on_done)
    except OSError as error:
        raise FewshotError(
            f"--cache {folder}: {error.strerror or error}. Make room or give another folder."
        ) from None


class _Entry:
    """The files of a data set in a cache, present or to be built."""

    def __init__(self, folder: Path, data: LabelledImages, size: int) -> None:
        self.folder, self.paths, self.size = folder, data.paths, size
        self.shape = (len(data.paths), 3, size, size)
        self.bytes = int(np.prod(self.shape, dtype=np.int64))
        self.digest = _digest(data)
        # Classes are part of the key, as a run may hold some out.
        key = repr((str(data.root.resolve()), data.name, data.class_names))
        key_hash = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        safe_name = re.sub(r"[^\w-]", "_", data.name)[:40]
        self.stem = f"{safe_name}-{size}px-{key_hash}"
        self.index = folder / f"{self.stem}.json"
        self.file = folder / f"{self.stem}-{self.digest[:8]}.uint8"
        self.part = f".{self.stem}-"
        """Prefix of the names of unfinished files."""

    def open(self) -> CachedImages | str:
        """Return the cached images, or why they cannot be used; "" if there are none."""
        try:
            index: dict[str, Any] = json.loads(self.index.read_text("utf-8"))
        except FileNotFoundError:
            return ""
        except (ValueError, RecursionError):
            return "its index is damaged"
        try:
            if (index["format"], index["digest"]) != (_FORMAT, self.digest):
                return "the photos changed since"
            problems = {int(position): str(why) for position, why in index["problems"].items()}
            checksums = [int(checksum) for checksum in index["checksums"]]
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            return "its index is damaged"
        images = len(self.paths)
        complete = self.file.is_file() and self.file.stat().st_size == self.bytes
        if len(checksums) != images or not complete:
            return "its images are missing or cut off"
        if images:
            mapped = np.memmap(self.file, dtype=np.uint8, mode="r", shape=self.shape)
            for position in sorted({int(i) for i in np.linspace(0, images - 1, _VERIFIED)}):
                if zlib.crc32(mapped[position].tobytes()) != checksums[position]:
                    return "its images are damaged"
        return CachedImages(self.file, images, self.size, problems)

    def build(self, on_done: Callable[[int], None] | None) -> CachedImages:
        """Decode the images and write both files."""
        free = shutil.disk_usage(self.folder).free
        if free < self.bytes:
            raise FewshotError(
                f"--cache {self.folder}: {self.stem} needs {self.bytes / 2**30:.2f} GiB, "
                f"{free / 2**30:.2f} are free. Make room, give another folder, or leave --cache "
                "out."
            )
        problems: dict[int, str] = {}
        checksums: list[int] = []
        with atomic_path(self.file, prefix=self.part) as temporary, temporary.open("wb") as out:
            for start in range(0, len(self.paths), _CHUNK):

                def count(done: int, start: int = start) -> None:
                    if on_done is not None:
                        on_done(start + done)

                chunk = self.paths[start : start + _CHUNK]
                pixels, bad = decode_pixels(chunk, self.size, on_done=count)
                problems |= {start + position: reason for position, reason in bad.items()}
                checksums += [zlib.crc32(image.tobytes()) for image in pixels]
                out.write(pixels.tobytes())
            out.flush()
        index = {"format": _FORMAT, "digest": self.digest, "problems": problems}
        with atomic_path(self.index, prefix=self.part) as temporary:
            temporary.write_text(json.dumps({**index, "checksums": checksums}), "utf-8")
        for old in self.folder.glob(f"{self.stem}-*.uint8"):
            if old != self.file:
                with contextlib.suppress(OSError):  # Windows: another run has it open
                    old.unlink()
        return CachedImages(self.file, len(self.paths), self.size, problems)


def _digest(data: LabelledImages) -> str:
    """Return a hash of all images: their names, and size and modification time of their files."""
    stats: dict[Path, tuple[int, int]] = {}
    digest = hashlib.sha256(repr(_FORMAT).encode())
    for source in data.paths:
        path = source if isinstance(source, Path) else getattr(source, "path", None)
        if isinstance(path, Path) and path not in stats:
            stats[path] = _size_and_time(path)
        name = str(source).replace(str(data.root), "", 1)  # the root as typed: ./images or images
        digest.update(repr((name, stats.get(path) if path else None)).encode())
    return digest.hexdigest()


def _size_and_time(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


@contextlib.contextmanager
def _lock(path: Path, on_wait: Callable[[], None]) -> Iterator[bool]:
    """Hold a lock that the system releases if the process dies; yield False if it has no locks."""
    try:
        with path.open("a+b") as file:
            yield _lock_file(file, on_wait)
    finally:
        with contextlib.suppress(OSError):  # Windows: another process waits for it
            path.unlink()


def _lock_file(file: BinaryIO, on_wait: Callable[[], None]) -> bool:
    try:
        import fcntl
    except ImportError:
        return _lock_on_windows(file, on_wait)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        on_wait()
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:  # some network drives
        return False
    return True


def _lock_on_windows(file: BinaryIO, on_wait: Callable[[], None]) -> bool:
    import msvcrt

    locking: Any = vars(msvcrt)["locking"]
    waiting = False
    while True:
        try:
            locking(file.fileno(), vars(msvcrt)["LK_LOCK"], 1)
        except OSError:  # timed out after ten seconds
            if not waiting:
                on_wait()
            waiting = True
        else:
            return True
