"""Photos received over HTTP: bytes, with a name that is shown and never opened."""

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

#: The problem of a video.
VIDEO = "a video, and photos alone are added here: `fewshot-lite add` and `adapt` take videos"
#: The most characters of a name.
_LONGEST_NAME = 100
#: The usual file endings of formats, where they are not the format's name.
_ENDINGS = {"JPEG": "jpg", "MPO": "jpg", "TIFF": "tif", "HEIF": "heic", "JPEG2000": "jp2"}


@dataclass(frozen=True)
class Upload:
    """A received photo; a `StoredImage`."""

    name: str
    """The sender's name of it."""
    data: bytes

    @classmethod
    def named(cls, name: str | None, data: bytes) -> Upload:
        """Make an upload with a printable name: the last part of the path that was sent."""
        last = (name or "").replace("\\", "/").rpartition("/")[2]
        return cls(visible(last)[:_LONGEST_NAME] or "photo", data)

    def read(self) -> bytes:
        """Return the bytes, refusing videos and empty files."""
        if not self.data:
            raise PhotoError("empty file (0 bytes)")
        if begins_as_video(self.data[:16]):
            raise PhotoError(VIDEO)
        return self.data

    def __str__(self) -> str:
        return self.name

    def inspect(self) -> tuple[str, bytes]:
        """Decode the photo; return the usual file ending of its format, and a small JPEG.

        Raises:
            PhotoError: it cannot be decoded.
        """
        square = load_square(self, 2 * SIDE)
        with opened(BytesIO(self.data)) as image:
            kind = image.format or ""
        return _ENDINGS.get(kind, kind.lower()), thumbnail(square)


def photo_name(data: bytes, ending: str) -> str:
    """Return a file name for a new photo that begins with the time, so that names sort by it."""
    digest = hashlib.sha256(data).hexdigest()
    return f"{datetime.now():%Y-%m-%d-%H%M%S}-{digest[:6]}.{ending}"
