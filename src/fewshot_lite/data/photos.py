"""One photo file to one square RGB image: the only way pixels enter, in training and in use.

A photo is opened, turned upright (EXIF), brought to RGB and its central square is resized. Large
JPEGs are decoded at a reduced scale (`Image.draft`), which costs a fraction of a full decode.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

#: Larger images are refused before they are decoded: a few kilobytes can claim gigapixels.
MAX_PIXELS = 250_000_000

_HEIC_ENDINGS = {".heic", ".heif", ".hif"}


class PhotoError(Exception):
    """A file that cannot be read as a photo; the message is the reason alone, without the path."""


def load_square(path: Path, size: int, *, max_pixels: int = MAX_PIXELS) -> npt.NDArray[np.uint8]:
    """Read a photo and resize its central square.

    Args:
        path: any image file that Pillow reads; of animated files the first frame is taken.
        size: side of the result in pixels.
        max_pixels: images with more pixels are refused.

    Returns:
        uint8 array of shape (size, size, 3), RGB.

    Raises:
        PhotoError: the file is missing, unreadable, truncated, too large or no image.
    """
    # Pillow's own bomb check would warn or raise in words about attacks; ours replaces it.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            if path.stat().st_size == 0:
                raise PhotoError("empty file (0 bytes)")
            _register_heic(path)
            with Image.open(path) as image:
                return np.asarray(_square(image, size, max_pixels))
        except PhotoError:
            raise
        except UnidentifiedImageError:
            raise PhotoError(_unidentified(path)) from None
        except Image.DecompressionBombError:
            raise PhotoError(f"more than {max_pixels:,} pixels") from None
        except (OSError, SyntaxError, ValueError, EOFError, MemoryError) as error:
            raise PhotoError(_reason(error)) from None
        except Exception as error:  # Pillow's decoders raise whatever their format's parser does
            raise PhotoError(f"broken image ({_reason(error)})") from None


def _square(image: Image.Image, size: int, max_pixels: int) -> Image.Image:
    width, height = image.size
    if width * height > max_pixels:
        raise PhotoError(f"{width} x {height} is more than {max_pixels:,} pixels")
    if image.format == "JPEG" and image.mode in ("RGB", "L"):
        # Twice the wanted size keeps the resize below well-sampled. A side may not be scaled
        # below the wanted square, so draft is given the shape of the whole image.
        scale = max(1.0, min(width, height) / (2 * size))
        image.draft(image.mode, (int(width / scale), int(height / scale)))
    image = _rgb(ImageOps.exif_transpose(image))
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return image.resize(
        (size, size),
        Image.Resampling.BILINEAR,
        box=(left, top, left + side, top + side),
        reducing_gap=3.0,
    )


def _rgb(image: Image.Image) -> Image.Image:
    """RGB of any mode: 16-bit is scaled, not clipped; transparency is laid on white."""
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return Image.fromarray(_to_eight_bits(image)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _to_eight_bits(image: Image.Image) -> npt.NDArray[np.uint8]:
    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    if image.mode == "F":
        top = 1.0 if values.max(initial=0.0) <= 1.0 else 255.0
    else:
        # Mode "I" is what Pillow makes of some 16-bit files, and of small integers as well.
        top = 255.0 if image.mode == "I" and values.max(initial=0) <= 255 else 65535.0
    return np.clip(values * (255.0 / top), 0, 255).round().astype(np.uint8)


def _register_heic(path: Path) -> None:
    if path.suffix.lower() not in _HEIC_ENDINGS:
        return
    try:
        import pillow_heif  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        raise PhotoError("HEIC photos need an extra: pip install 'fewshot-lite[heic]'") from None
    pillow_heif.register_heif_opener()


def _unidentified(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] == b"ftyp":
        return (
            "HEIC or AVIF under another ending: pip install 'fewshot-lite[heic]', end it in .heic"
        )
    return "not an image"


def _reason(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, IsADirectoryError):
        return "a folder, not a photo"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    text = str(error).strip().splitlines()
    if text and "truncated" in text[0].lower():
        return "truncated image"
    return text[0] if text else type(error).__name__
