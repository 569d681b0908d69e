"""Read class folders from a ZIP archive without writing its contents to disk.

Member names are never used as paths, so none can lead out of the archive. Sizes are limited before
unpacking, and while unpacking.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path, PurePosixPath

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.images.folders import (
    LabelledImages,
    Skipped,
    check_class_names,
    check_parts,
    is_system_name,
)
from fewshot_lite.images.kinds import why_not
from fewshot_lite.images.opening import PhotoError, one_line

#: Largest unpacked photo in bytes: it is in memory while it is read.
MOST_BYTES = 200_000_000
_MOST_FILES = 1_000_000
#: Largest ratio of unpacked to packed size (photos hardly shrink; ZIP bombs do), and unpacked bytes
#: up to which any ratio is accepted.
_MOST_TIMES, _FREE_BYTES = 100, 1_000_000_000
#: Longest member name, folders included.
_LONGEST_NAME = 4096


@dataclass(frozen=True, eq=False)
class ZippedPhoto:
    """A photo in an archive; an image source (`StoredImage`)."""

    archive: zipfile.ZipFile
    member: zipfile.ZipInfo
    place: str
    """The archive's path and the path in it."""

    def read(self) -> bytes:
        """Return the photo's bytes.

        Raises:
            PhotoError: it is encrypted or too large, or the archive is damaged.
        """
        too_large = PhotoError(f"larger than {MOST_BYTES // 10**6:,} MB")
        if self.member.file_size > MOST_BYTES:
            raise too_large
        data = self._first(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise too_large
        return data

    def head(self) -> bytes:
        """Return the first 16 bytes; b"" if the member cannot be read."""
        try:
            with one_line():
                return self._first(16)
        except PhotoError:
            return b""

    def _first(self, number: int) -> bytes:
        if self.member.flag_bits & 1:
            raise PhotoError("encrypted")
        try:
            with self.archive.open(self.member) as file:
                return file.read(number)
        except (zipfile.BadZipFile, EOFError) as error:
            raise PhotoError(f"damaged in the archive ({error})") from None

    def __str__(self) -> str:
        return self.place


def scan_zip(path: Path) -> LabelledImages:
    """Find the class folders of an archive and their photos; nothing is decoded.

    Enclosing folders around all class folders, as archives often have, are ignored.

    Raises:
        UsageError: the file does not exist, or is not an archive.
        FewshotError: it has no class folders, class names that cannot be told apart, or exceeds the
            limits.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, EOFError):
        raise UsageError(
            f"{path}: a file, not a folder, and no ZIP archive (or a damaged one). Give a folder "
            "with one folder per class."
        ) from None
    except OSError as error:
        raise UsageError(f"{path}: {(error.strerror or str(error)).lower()}.") from None
    members = [member for member in archive.infolist() if not member.is_dir()]
    if len(members) > _MOST_FILES:
        raise FewshotError(f"{path}: more than {_MOST_FILES:,} files. Give the folder unpacked.")
    unpacked = sum(member.file_size for member in members)
    if unpacked > max(_FREE_BYTES, _MOST_TIMES * path.stat().st_size):
        raise FewshotError(
            f"{path}: unpacks to more than {_MOST_TIMES} times its size, as no photos do. Give the "
            "folder unpacked."
        )
    if any(len(member.filename) > _LONGEST_NAME for member in members):
        raise FewshotError(f"{path}: names longer than any system takes. Give the folder unpacked.")
    named = [(PurePosixPath(member.filename.replace("\\", "/")), member) for member in members]
    named = [
        (name, member)
        for name, member in named
        if not any(part != ".." and is_system_name(part) for part in name.parts)
    ]
    around = _folders_around([name.parts for name, _ in named])
    if around:
        named = [(PurePosixPath(*name.parts[around:]), member) for name, member in named]
    photos, skipped = [], []
    for name, member in sorted(named, key=lambda pair: str(pair[0])):
        place = f"{path}/{name}"
        if len(name.parts) < 2:
            skipped.append(Skipped(Path(place), "not inside a class folder"))
        elif ".." in name.parts or name.is_absolute():
            skipped.append(Skipped(Path(place), "a name that leads out of the archive"))
        else:
            photo = ZippedPhoto(archive, member, place)
            problem = why_not(name.suffix, photo.head, videos=True)
            if problem is None:
                photos.append((name.parts[0], photo))
            else:
                skipped.append(Skipped(Path(place), problem))
    names = tuple(sorted({label for label, _ in photos}))
    number = {name: k for k, name in enumerate(names)}
    if all(len(PurePosixPath(photo.place).relative_to(path).parts) > 2 for _, photo in photos):
        check_parts(path, names, "Unpack the archive and give the folder {}, e.g.,")
    if not names:
        why = f" ({skipped[0].path}: {skipped[0].reason})" if skipped else ""
        raise FewshotError(
            f"{path}: no class folders with photos{why}. It needs one folder per class in it."
        )
    check_class_names(path, names)
    return LabelledImages(
        name=path.stem,
        root=path,
        class_names=names,
        paths=tuple(photo for _, photo in photos),
        labels=tuple(number[label] for label, _ in photos),
        skipped=tuple(skipped),
    )


def _folders_around(names: list[tuple[str, ...]]) -> int:
    """Return the number of nested folders that enclose all class folders."""
    most = min((len(parts) - 2 for parts in names), default=0)
    if most <= 0:
        return 0
    pairs = zip(min(names)[:most], max(names)[:most], strict=True)  # all others sort between them
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1] not in ("/", ".."), pairs))
