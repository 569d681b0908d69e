"""Recognise photos and videos by file ending and first bytes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from fewshot_lite.core.errors import UsageError
from fewshot_lite.core.files import EXPORTED

#: Endings that make a file a photo; files with other endings are recognised by their first bytes.
PHOTO_ENDINGS = frozenset(
    [
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".webp", ".bmp", ".dib", ".tif"),
        *(".tiff", ".heic", ".heif", ".hif", ".avif", ".ppm", ".pgm", ".pbm", ".pnm", ".tga"),
        *(".ico", ".jp2"),
    ]
)
#: Endings of files that begin like a photo but are not read: camera raw data, which are TIFF files
#: with a thumbnail in front, and unfinished downloads.
_RAW = frozenset(
    [
        *(".3fr", ".arw", ".cr2", ".cr3", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".nef", ".nrw"),
        *(".orf", ".pef", ".raf", ".rw2", ".sr2", ".srw"),
    ]
)
_UNDER_WAY = frozenset([".crdownload", ".download", ".part", ".partial", ".tmp"])
#: First bytes of the `opening.FORMATS` that cannot be confused with text.
_PHOTO_STARTS = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF.{4}WEBP|II[*+]\0|MM\0[*+]|BM.{4}\0{4}"
    rb"|.{4}ftyp(hei|hev|mif1|msf1|avi[fs])|\0\0\0\x0cjP  \r\n|\xff\x4f\xff\x51",
    re.DOTALL,
)

#: Endings that make a file a video; files without an ending are recognised by their first bytes.
VIDEO_ENDINGS = frozenset([".mp4", ".m4v", ".mov", ".qt", ".webm", ".mkv", ".avi", ".3gp"])
#: First bytes of videos. HEIC and AVIF photos begin with the same box as MP4.
_VIDEO_STARTS = re.compile(
    rb".{4}(ftyp(?!hei|hev|mif1|msf1|avi[fs])|moov|mdat|wide)|\x1a\x45\xdf\xa3|RIFF.{4}AVI ",
    re.DOTALL,
)

#: What a file is by its ending: tables, and what neither a model nor a table should be named as.
_TABLES = dict.fromkeys((".csv", ".tsv", ".json", ".jsonl", ".txt"), "a table")
_OTHERS = {
    **dict.fromkeys(EXPORTED, "an export, which `fewshot-lite export` writes"),
    **dict.fromkeys((".html", ".htm"), "a page"),
    **dict.fromkeys(PHOTO_ENDINGS, "a photo"),
    **dict.fromkeys(VIDEO_ENDINGS, "a video"),
    ".zip": "an archive",
}

NOT_A_PHOTO = "not a photo"
RAW_DATA = "raw data of a camera: export it as JPEG"
#: Reasons for not reading a video without PyAV: one asked for, and one found in a folder.
READS_VIDEOS = 'a video, which takes PyAV: pip install "fewshot-lite[video]"'
SKIPPED_VIDEO = f"passed over: {READS_VIDEOS}"
#: Reasons that do not count as failures for files found in a folder.
NOT_ASKED_FOR = frozenset([NOT_A_PHOTO, RAW_DATA, SKIPPED_VIDEO])


def check_model_name(path: Path, flag: str = "--output") -> None:
    """Raise UsageError for the name of another kind of file: no command would find a model there.

    Args:
        path: the file to write a model to.
        flag: the flag that named it.
    """
    if path == Path("-"):
        raise UsageError(f"{flag} -: a model is not written to stdout. Give the name of a file.")
    if what := (_TABLES | _OTHERS).get(path.suffix.lower()):
        raise UsageError(f"{flag} {path}: the name of {what}. End it in .safetensors.")


def check_table_name(path: Path, flag: str, example: str = "out.csv") -> None:
    """Raise UsageError for the name of another kind of file, which `--force` would overwrite.

    Args:
        path: the table, log or submission to write.
        flag: the flag that named it.
        example: a name that would do.
    """
    if what := (_OTHERS | {".safetensors": "a model"}).get(path.suffix.lower()):
        raise UsageError(f"{flag} {path}: the name of {what}. Give another, e.g. {example}.")


def is_raw_data(path: Path, head: bytes) -> bool:
    """Return whether a file is camera raw data by its ending, unless it begins as a JPEG.

    Pillow may open such a file, but as the thumbnail in front of the data.
    """
    return path.suffix.lower() in _RAW and not head.startswith(b"\xff\xd8")


def begins_as_photo(head: bytes) -> bool:
    """Return whether the first 16 bytes of a file are a photo's."""
    return _PHOTO_STARTS.match(head) is not None


def begins_as_video(head: bytes) -> bool:
    """Return whether the first 16 bytes of a file are a video's."""
    return _VIDEO_STARTS.match(head) is not None


def head_of(path: Path) -> bytes:
    """Return the first 16 bytes of a file; b"" if it is not a file or cannot be read."""
    try:
        if not path.is_file():  # opening a pipe would block
            return b""
        with path.open("rb") as file:
            return file.read(16)
    except OSError:  # no permission, or removed meanwhile
        return b""


def why_no_photo(path: Path, *, videos: bool = False) -> str | None:
    """Return why a file is not a photo (or, with `videos`, a video); None if it is."""
    return why_not(path.suffix, lambda: head_of(path), videos=videos)


def why_not(ending: str, head: Callable[[], bytes], *, videos: bool) -> str | None:
    """Return the answer of `why_no_photo` for a file with this ending.

    Args:
        head: returns its first 16 bytes, b"" if it cannot be read; called only if needed.
    """
    ending = ending.lower()
    if ending in PHOTO_ENDINGS:
        return None
    if ending in _RAW:
        return RAW_DATA
    first = b"" if ending in _UNDER_WAY else head()
    if begins_as_photo(first):
        return None
    if not videos or not (ending in VIDEO_ENDINGS or (not ending and begins_as_video(first))):
        return NOT_A_PHOTO
    from fewshot_lite.images.videos import can_read

    return None if can_read() else SKIPPED_VIDEO
