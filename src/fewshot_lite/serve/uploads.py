"""Photos as they come over HTTP: bytes with a name that is shown and never opened."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO

from fewshot_lite.core.text import visible
from fewshot_lite.images.kinds import begins_as_video
from fewshot_lite.images.opening import PhotoError, opened
from fewshot_lite.images.photo import load_square
from fewshot_lite.images.thumbnails import SIDE, thumbnail

#: Why a video is not added.
VIDEO = "a video, and photos alone are added here: `fewshot-lite add` and `adapt` take videos"
#: Characters of a name that are kept.
_LONGEST_NAME = 100
#: The usual ending of a format, where it is not the format's name.
_ENDINGS = {"JPEG": "jpg", "MPO": "jpg", "TIFF": "tif", "HEIF": "heic", "JPEG2000": "jp2"}


@dataclass(frozen=True)
class Upload:
    """A photo as it was sent; a `StoredImage`."""

    name: str
    """What the sender calls it."""
    data: bytes

    @classmethod
    def named(cls, name: str | None, data: bytes) -> Upload:
        """With a name that can be shown: the last part of what was sent."""
        last = (name or "").replace("\\", "/").rpartition("/")[2]
        return cls(visible(last)[:_LONGEST_NAME] or "photo", data)

    def read(self) -> bytes:
        """The bytes."""
        if not self.data:
            raise PhotoError("empty file (0 bytes)")
        if begins_as_video(self.data[:16]):
            raise PhotoError(VIDEO)
        return self.data

    def __str__(self) -> str:
        return self.name

    def look(self) -> tuple[str, bytes]:
        """The usual ending of its format, and a small JPEG; it is decoded as files are.

        Raises:
            PhotoError: it cannot be.
        """
        square = load_square(self, 2 * SIDE)
        with opened(BytesIO(self.data)) as image:
            kind = image.format or ""
        return _ENDINGS.get(kind, kind.lower()), thumbnail(square)


def photo_name(data: bytes, ending: str) -> str:
    """A name for a new photo's file, by the time: a folder sorted by name is in their order."""
    digest = hashlib.sha256(data).hexdigest()
    return f"{datetime.now():%Y-%m-%d-%H%M%S}-{digest[:6]}.{ending}"
