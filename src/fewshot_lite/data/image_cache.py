"""Resized images on disk, so that the next run decodes nothing: raw uint8 and an index.

    FOLDER/birds-224px-3f2a9c1e.json             what lies in the other file
    FOLDER/birds-224px-3f2a9c1e-77d0e4b1.uint8   (N, 3, 224, 224)

The first hash is of where the data set lies and of its classes; the second of its files: names,
sizes and times of change. A data set that changed has another second hash and is read anew. Both
files are written whole or not at all, the index last. One run builds, others wait for it; where the
system has no locks they build side by side, the same files, and the last one's stay.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.files import atomic_path
from fewshot_lite.images.decoding import decode_pixels
from fewshot_lite.images.folders import LabelledImages

#: Raised when the pixels of the same photo change, or the format does.
_FORMAT = 1
#: Images decoded at a time, and how many are compared with their checksums when a file is opened.
_CHUNK, _LOOKED_AT = 256, 64

Notify = Callable[[str], None]


@dataclass(frozen=True)
class CachedImages:
    """Images in a file: uint8 (images, 3, size, size)."""

    file: Path
    images: int
    size: int
    problems: dict[int, str]
    """Position -> why the image is black."""


def check_cache_folder(folder: Path) -> None:
    """Make the folder, before the work is done that it is for.

    Raises:
        UsageError: a file of that name, or it cannot be made.
    """
    try:
        folder.mkdir(exist_ok=True)
    except FileExistsError:
        raise UsageError(f"--cache {folder}: a file, not a folder.") from None
    except FileNotFoundError:
        raise UsageError(
            f"--cache {folder}: there is no folder {folder.absolute().parent}. Create it first."
        ) from None
    except OSError as error:
        raise UsageError(f"--cache {folder}: cannot be made ({error.strerror}).") from None


def cached_images(
    folder: Path,
    data: LabelledImages,
    size: int,
    *,
    on_done: Callable[[int], None] | None = None,
    notify: Notify | None = None,
) -> CachedImages:
    """The images of a data set in a cache; they are read and put there if they are not.

    Args:
        folder: of the cache.
        data: the data set.
        size: side of the images in pixels.
        on_done: called with the number of photos decoded, if any have to be.
        notify: told why what lay there was not used.

    Raises:
        FewshotError: it cannot be written; nothing half-written is left.
    """
    entry = _Entry(folder, data, size)
    notify = notify or (lambda notice: None)
    try:
        found = entry.open()
        if isinstance(found, CachedImages):
            return found
        waits = f"--cache {folder}: another process builds {entry.stem}; waiting for it."
        with _alone(folder / f"{entry.stem}.lock", lambda: notify(waits)) as alone:
            found = entry.open()  # while this one waited
            if isinstance(found, CachedImages):
                return found
            if found:
                notify(f"--cache {folder}: {entry.stem}: {found}; read anew.")
            for left in folder.glob(f"{entry.part}*") if alone else ():  # by a run that was killed
                left.unlink(missing_ok=True)
            return entry.build(on_done)
    except OSError as error:
        raise FewshotError(
            f"--cache {folder}: {error.strerror or error}. Make room or give another folder."
        ) from None


class _Entry:
    """What a cache has, or is to have, of a data set."""

    def __init__(self, folder: Path, data: LabelledImages, size: int) -> None:
        self.folder, self.paths, self.size = folder, data.paths, size
        self.shape = (len(data.paths), 3, size, size)
        self.bytes = int(np.prod(self.shape, dtype=np.int64))
        self.digest = _digest(data)
        # Classes are part of the name, as some may be held out of a run.
        where = repr((str(data.root.resolve()), data.name, data.class_names))
        mark = hashlib.sha256(where.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        plain = re.sub(r"[^\w-]", "_", data.name)[:40]
        self.stem = f"{plain}-{size}px-{mark}"
        self.index = folder / f"{self.stem}.json"
        self.file = folder / f"{self.stem}-{self.digest[:8]}.uint8"
        self.part = f".{self.stem}-"
        """How the names of unfinished files begin."""

    def open(self) -> CachedImages | str:
        """What lies there, or the reason why it cannot be used; neither if nothing does."""
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
        whole = self.file.is_file() and self.file.stat().st_size == self.bytes
        if len(checksums) != images or not whole:
            return "its images are missing or cut off"
        if images:
            mapped = np.memmap(self.file, dtype=np.uint8, mode="r", shape=self.shape)
            for position in sorted({int(i) for i in np.linspace(0, images - 1, _LOOKED_AT)}):
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
                with contextlib.suppress(OSError):  # Windows: while another run has it open
                    old.unlink()
        return CachedImages(self.file, len(self.paths), self.size, problems)


def _digest(data: LabelledImages) -> str:
    """Hash of all images: where each lies, and size and time of change of its file."""
    seen: dict[Path, tuple[int, int]] = {}
    digest = hashlib.sha256(repr(_FORMAT).encode())
    for source in data.paths:
        path = source if isinstance(source, Path) else getattr(source, "path", None)
        if isinstance(path, Path) and path not in seen:
            seen[path] = _state(path)
        name = str(source).replace(str(data.root), "", 1)  # as typed: ./images is images
        digest.update(repr((name, seen.get(path) if path else None)).encode())
    return digest.hexdigest()


def _state(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


@contextlib.contextmanager
def _alone(path: Path, on_wait: Callable[[], None]) -> Iterator[bool]:
    """Hold a lock that the system lets go of however this process ends; False if it has none."""
    try:
        with path.open("a+b") as file:
            yield _lock(file, on_wait)
    finally:
        with contextlib.suppress(OSError):  # Windows: someone waits for it
            path.unlink()


def _lock(file: BinaryIO, on_wait: Callable[[], None]) -> bool:
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
        except OSError:  # ten seconds passed
            if not waiting:
                on_wait()
            waiting = True
        else:
            return True
