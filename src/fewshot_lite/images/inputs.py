"""Convert photos in any supported form (paths, bytes, Pillow images, arrays, tensors) to sources.

    read_square(as_source(photo), 224)

All are processed like files (`images.photo`): EXIF orientation is applied, the central square is
taken, transparency is laid on white, and grey values of more than 8 bits are scaled by their white
level. Neither importing this nor reading a tensor imports torch.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

from fewshot_lite.core.errors import InputError
from fewshot_lite.images.photo import usual_white
from fewshot_lite.images.regions import Region

if TYPE_CHECKING:
    from torch import Tensor

#: One photo: the path of a photo or video, or its bytes; a Pillow image; a NumPy array (H, W),
#: (H, W, 1), (H, W, 3) or (H, W, 4), uint8, uint16, bool or float in [0, 1]; a torch tensor of the
#: same types with its channels first, (H, W), (1, H, W), (3, H, W) or (4, H, W); a source; or a
#: region of any of these.
Photo: TypeAlias = (
    "str | os.PathLike[str] | bytes | Image.Image | npt.NDArray[Any] | Tensor | InMemory | Region"
)

#: A photo converted to a source.
Taken: TypeAlias = "Path | InMemory | Region"

#: Floats outside [0, 1] by no more than this, as resizing produces them, are clipped.
_OVERSHOOT = 0.5

_ONE = (str, os.PathLike, bytes, bytearray, memoryview, Image.Image, Region)

#: Pillow images are read one at a time, as several threads may have been given the same one.
_lock = threading.Lock()


@dataclass(frozen=True, eq=False)
class InMemory:
    """A photo that is not a file; an image source (`StoredImage`)."""

    content: bytes | Image.Image | npt.NDArray[np.generic]
    name: str
    """Its argument, for messages, e.g. "photos[3]"."""

    def read(self) -> bytes | Image.Image | npt.NDArray[Any]:
        if not isinstance(self.content, Image.Image):
            return self.content
        with _lock:
            return self.content.copy()  # as reading changes it

    def __str__(self) -> str:
        return self.name


def is_photo(photos: object) -> bool:
    """Return whether the type is that of a single photo, not of several."""
    if isinstance(photos, _ONE):
        return True
    if isinstance(photos, Mapping) or hasattr(photos, "read"):  # `as_source` refuses it as a whole
        return True
    kind = getattr(getattr(photos, "dtype", None), "kind", "")
    paths_or_images = ("O", "U", "S", "T")  # kinds of arrays that do not hold pixels
    return getattr(photos, "ndim", None) in (0, 1, 2, 3) and kind not in paths_or_images


def as_sources(photos: Iterable[Any], name: str = "photos") -> Iterator[Taken]:
    """Convert several photos lazily; see `as_source`."""
    for number, photo in enumerate(photos):
        yield as_source(photo, f"{name}[{number}]")


def as_source(photo: Any, name: str = "photo") -> Taken:
    """Convert one photo (`Photo`) to a source; a source is returned unchanged.

    Args:
        photo: the photo.
        name: of the argument, for error messages.

    Raises:
        InputError: not a photo by its type, shape or values. Problems of files and encoded bytes
            are found when they are read.
    """
    if isinstance(photo, InMemory):
        return photo
    if isinstance(photo, Region):
        if isinstance(photo.photo, Region):
            raise InputError(f"{name}: a region of a region. Give one of the whole photo.")
        return Region(as_source(photo.photo, name), photo.box)
    if isinstance(photo, str | os.PathLike):
        if photo == "":  # `Path` would make it the current folder
            raise InputError(f"{name}: an empty text. Give a path.")
        return Path(photo)
    if isinstance(photo, bytes | bytearray | memoryview):
        return InMemory(bytes(photo), name)
    if isinstance(photo, Image.Image):
        return _unread_file(photo) or InMemory(photo, name)
    if hasattr(photo, "detach") and hasattr(photo, "cpu"):
        return InMemory(_from_tensor(photo, name), name)
    if isinstance(photo, np.ndarray):
        channels_last = photo.ndim == 2 or (photo.ndim == 3 and photo.shape[-1] in (1, 3, 4))
        if not channels_last:
            raise InputError(
                f"{name}: an array of shape {photo.shape}. A photo is (height, width) or (height, "
                f"width, 3 or 4){_remedy(photo, 'transpose(1, 2, 0)', 0)}."
            )
        return InMemory(_eight_bits(photo, name), name)
    how = " (.read())" if hasattr(photo, "read") else ""
    raise InputError(
        f"{name}: {type(photo).__name__} is no photo. Give a path, the bytes of a file{how}, an "
        "image of Pillow's, an array (height, width, 3) or a tensor (3, height, width)."
    )


def _unread_file(image: Image.Image) -> Path | None:
    """Return the file of a Pillow image that was opened but not loaded, else None."""
    opened = isinstance(image, ImageFile.ImageFile) and image.tile and image.tell() == 0
    name = getattr(image, "filename", "")
    if opened and isinstance(name, str) and name and os.path.isfile(name):
        return Path(name)
    return None


def _from_tensor(tensor: Tensor, name: str) -> npt.NDArray[Any]:
    shape = tuple(tensor.shape)
    if not (len(shape) == 2 or (len(shape) == 3 and shape[0] in (1, 3, 4))):
        raise InputError(
            f"{name}: a tensor of shape {shape}. A photo is (height, width) or (3 or 4, height, "
            f"width){_remedy(tensor, 'permute(2, 0, 1)', -1)}."
        )
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        tensor = tensor.float()  # NumPy has no bfloat16
    array = tensor.numpy()
    return _eight_bits(array if array.ndim == 2 else array.transpose(1, 2, 0), name)


def _remedy(photo: Any, call: str, channels: int) -> str:
    """Return the end of a message about a wrong shape: `call` if the channels are misplaced."""
    if photo.ndim == 3 and photo.shape[channels] in (1, 3, 4):
        return f": put the channels in their place with .{call}"
    if photo.ndim == 4:
        return ": give several as a list, or at the top of the argument"
    return ""


def _eight_bits(array: npt.NDArray[Any], name: str) -> npt.NDArray[np.generic]:
    """Return pixels (H, W[, 3 or 4]) in a type that Pillow takes: uint8, or uint16 if grey."""
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if 0 in array.shape:
        raise InputError(f"{name}: an image of shape {array.shape}, which has no pixels.")
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * 255
    if array.dtype == np.uint16:
        if array.ndim == 2:
            return np.ascontiguousarray(array)
        array = array / usual_white(float(array.max()))
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype.kind != "f":
        raise InputError(
            f"{name}: values of type {array.dtype}. Give uint8 (.astype('uint8')), uint16, or "
            "floats in [0, 1]."
        )
    least, most = float(array.min()), float(array.max())
    if not (least >= -_OVERSHOOT and most <= 1 + _OVERSHOOT):  # NaN, too
        values = "NaN among the values" if least != least else f"floats from {least:g} to {most:g}"
        raise InputError(
            f"{name}: {values}, but they have to lie in [0, 1]. Divide by the value of white, or "
            "give uint8 for 0 to 255."
        )
    pixels: npt.NDArray[np.uint8] = (np.clip(array, 0, 1) * 255).round().astype(np.uint8)
    return pixels
