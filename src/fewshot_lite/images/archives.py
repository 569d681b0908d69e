"""A ZIP archive of class folders, read where it lies: nothing of it is written to a disk.

Names in it are never used as paths, so none can lead out of it. What a file claims to hold is
bounded before it is unpacked, and while it is.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.images.folders import (
    NOT_A_PHOTO,
    LabelledImages,
    Skipped,
    check_class_names,
    is_photo_name,
    is_system_name,
)
from fewshot_lite.images.opening import PhotoError

#: Bytes of one photo, unpacked: they are in memory while it is read.
MOST_BYTES = 200_000_000
#: Files in an archive.
_MOST_FILES = 1_000_000


@dataclass(frozen=True, eq=False)
class ZippedPhoto:
    """A photo in an archive; an image source (`StoredImage`)."""

    archive: zipfile.ZipFile
    member: zipfile.ZipInfo
    place: str
    """Where it lies, the archive's own path first."""

    def read(self) -> bytes:
        """Its bytes.

        Raises:
            PhotoError: it is encrypted or too large, or the archive is damaged.
        """
        if self.member.flag_bits & 1:
            raise PhotoError("encrypted")
        too_large = PhotoError(f"larger than {MOST_BYTES // 10**6:,} MB")
        if self.member.file_size > MOST_BYTES:
            raise too_large
        try:
            with self.archive.open(self.member) as file:
                data = file.read(MOST_BYTES + 1)
        except (zipfile.BadZipFile, EOFError) as error:
            raise PhotoError(f"damaged in the archive ({error})") from None
        if len(data) > MOST_BYTES:
            raise too_large
        return data

    def __str__(self) -> str:
        return self.place


def scan_zip(path: Path) -> LabelledImages:
    """Find the class folders of an archive and their photos (nothing is decoded).

    One folder around all class folders, as archives often have it, is passed over.

    Raises:
        UsageError: no such file, or no archive.
        FewshotError: it has no class folders, or names that cannot be told apart.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, EOFError):
        raise UsageError(
            f"{path}: a file, not a folder, and no ZIP archive (or a damaged one)."
        ) from None
    except OSError as error:
        raise UsageError(f"{path}: {(error.strerror or str(error)).lower()}.") from None
    members = [member for member in archive.infolist() if not member.is_dir()]
    if len(members) > _MOST_FILES:
        raise FewshotError(f"{path}: more than {_MOST_FILES:,} files. Give the folder unpacked.")
    named = [(PurePosixPath(member.filename.replace("\\", "/")), member) for member in members]
    named = [(name, m) for name, m in named if not any(map(is_system_name, name.parts))]
    while named and len({name.parts[0] for name, _ in named}) == 1 and _is_around(named):
        named = [(PurePosixPath(*name.parts[1:]), member) for name, member in named]
    photos, skipped = [], []
    for name, member in sorted(named, key=lambda pair: str(pair[0])):
        place = f"{path}/{name}"
        if len(name.parts) < 2:
            skipped.append(Skipped(Path(place), "not inside a class folder"))
        elif ".." in name.parts or name.is_absolute():
            skipped.append(Skipped(Path(place), "a name that leads out of the archive"))
        elif not is_photo_name(name.name):
            skipped.append(Skipped(Path(place), NOT_A_PHOTO))
        else:
            photos.append((name.parts[0], ZippedPhoto(archive, member, place)))
    names = tuple(sorted({label for label, _ in photos}))
    if not names:
        raise FewshotError(
            f"{path}: no class folders with photos. It needs one folder per class in it."
        )
    check_class_names(path, names)
    return LabelledImages(
        name=path.stem,
        root=path,
        class_names=names,
        paths=tuple(photo for _, photo in photos),
        labels=tuple(names.index(label) for label, _ in photos),
        skipped=tuple(skipped),
    )


def _is_around(named: list[tuple[PurePosixPath, zipfile.ZipInfo]]) -> bool:
    """Whether the only folder at the top holds folders alone."""
    return all(len(name.parts) > 2 for name, _ in named) and named[0][0].parts[0] not in ("/", "..")
