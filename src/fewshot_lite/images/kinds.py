"""What files are, by their endings and first bytes: photos, videos, or neither."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

#: Endings taken for photos when a folder is searched; a file of another one, by its first bytes.
PHOTO_ENDINGS = frozenset(
    [
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".webp", ".bmp", ".dib", ".tif"),
        *(".tiff", ".heic", ".heif", ".hif", ".avif", ".ppm", ".pgm", ".pbm", ".pnm", ".tga"),
        *(".ico", ".jp2"),
    ]
)
#: Endings of what begins like a photo and is none to be read: raw data of cameras, which are TIFF
#: files with a thumbnail in front, and downloads under way.
_RAW = frozenset(
    [
        *(".3fr", ".arw", ".cr2", ".cr3", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".nef", ".nrw"),
        *(".orf", ".pef", ".raf", ".rw2", ".sr2", ".srw"),
    ]
)
_UNDER_WAY = frozenset([".crdownload", ".download", ".part", ".partial", ".tmp"])
#: How files of `opening.FORMATS` begin, those alone that no text begins like.
_PHOTO_STARTS = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF.{4}WEBP|II[*+]\0|MM\0[*+]|BM.{4}\0{4}"
    rb"|.{4}ftyp(hei|hev|mif1|msf1|avi[fs])|\0\0\0\x0cjP  \r\n|\xff\x4f\xff\x51",
    re.DOTALL,
)

#: Endings taken for videos; a file of none, by its first bytes.
VIDEO_ENDINGS = frozenset([".mp4", ".m4v", ".mov", ".qt", ".webm", ".mkv", ".avi", ".3gp"])
#: How their files begin. What begins with the same box as MP4, HEIC and AVIF, is a photo.
_VIDEO_STARTS = re.compile(
    rb".{4}(ftyp(?!hei|hev|mif1|msf1|avi[fs])|moov|mdat|wide)|\x1a\x45\xdf\xa3|RIFF.{4}AVI ",
    re.DOTALL,
)

#: Why a file is skipped that is called and begins like none.
NOT_A_PHOTO = "not a photo"
RAW_DATA = "raw data of a camera: export it as JPEG"
#: What reads videos where nothing does, and why one in a folder is then passed over.
READS_VIDEOS = 'a video, which takes PyAV: pip install "fewshot-lite[video]"'
SKIPPED_VIDEO = f"passed over: {READS_VIDEOS}"
#: Files that nobody asked for, in a folder: they are no failure.
NOT_ASKED_FOR = frozenset([NOT_A_PHOTO, RAW_DATA, SKIPPED_VIDEO])


def is_raw_data(path: Path, head: bytes) -> bool:
    """Whether a file is raw data of a camera, by its ending; a JPEG is none, whatever its ending.

    It may well open, as the small picture in front of the data.
    """
    return path.suffix.lower() in _RAW and not head.startswith(b"\xff\xd8")


def begins_as_photo(head: bytes) -> bool:
    """Whether the first 16 bytes of a file are a photo's."""
    return _PHOTO_STARTS.match(head) is not None


def begins_as_video(head: bytes) -> bool:
    """Whether the first 16 bytes of a file are a video's."""
    return _VIDEO_STARTS.match(head) is not None


def head_of(path: Path) -> bytes:
    """The first 16 bytes of a file; none of what is no file, or cannot be read."""
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            return b""
        with path.open("rb") as file:
            return file.read(16)
    except OSError:  # not for us to read, or gone
        return b""


def why_no_photo(path: Path, *, videos: bool = False) -> str | None:
    """None for a photo, by its ending or else by its first bytes; so for a video if these do."""
    return why_not(path.suffix, lambda: head_of(path), videos=videos)


def why_not(ending: str, head: Callable[[], bytes], *, videos: bool) -> str | None:
    """As `why_no_photo`, of a file with this ending.

    Args:
        head: gives its first 16 bytes, if they are asked for; none if it cannot be read.
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
