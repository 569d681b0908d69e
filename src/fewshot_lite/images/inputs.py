"""Photos in any form that a person may hand in, as sources that can be read.

    read_square(as_source(photo), 224)

Everything goes the way of files (`images.photo`): turned upright where EXIF says so, cut to the
central square, transparency laid on white, grey values of more than 8 bits scaled by their own
white. Importing this does not import torch, nor does reading a tensor.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

from fewshot_lite.core.errors import InputError
from fewshot_lite.images.photo import usual_white
from fewshot_lite.images.regions import Region, as_box

if TYPE_CHECKING:
    from torch import Tensor

#: One photo: the path of a file, a video's too; the bytes of one; an image of Pillow's; a NumPy
#: array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), uint8, uint16, bool or float in [0, 1]; a torch
#: tensor of the same kinds with its channels first, (H, W), (1, H, W), (3, H, W) or (4, H, W); or
#: any of these as a source already, or a region of it.
Photo: TypeAlias = (
    "str | os.PathLike[str] | bytes | Image.Image | npt.NDArray[Any] | Tensor | InMemory | Region"
)

#: A photo as a source.
Taken: TypeAlias = "Path | InMemory | Region"

#: Floats may be so far beyond [0, 1], as resizing leaves them, and are cut off.
_OVERSHOOT = 0.5

_ONE = (str, os.PathLike, bytes, bytearray, memoryview, Image.Image, Region)

#: Pillow's images are read one at a time: two threads may have been given the same.
_lock = threading.Lock()


@dataclass(frozen=True, eq=False)
class InMemory:
    """A photo that is no file; an image source (`StoredImage`)."""

    content: bytes | Image.Image | npt.NDArray[np.generic]
    name: str
    """The argument it came in, for messages, e.g. "photos[3]"."""

    def read(self) -> bytes | Image.Image | npt.NDArray[Any]:
        if not isinstance(self.content, Image.Image):
            return self.content
        with _lock:
            return self.content.copy()  # reading changes it, and it is somebody else's

    def __str__(self) -> str:
        return self.name


def is_photo(photos: object) -> bool:
    """Whether something is one photo by its type; if not, it may be several."""
    if isinstance(photos, _ONE):
        return True
    kind = getattr(getattr(photos, "dtype", None), "kind", "")  # paths or images, not pixels
    return getattr(photos, "ndim", None) in (1, 2, 3) and kind not in ("O", "U", "S", "T")


def as_sources(photos: Iterable[Any], name: str = "photos") -> Iterator[Taken]:
    """Each of several photos as a source, as they are needed; see `as_source`."""
    for number, photo in enumerate(photos):
        yield as_source(photo, f"{name}[{number}]")


def as_source(photo: Any, name: str = "photo") -> Taken:
    """One photo (`Photo`) as a source.

    Args:
        photo: what was handed in; a source that this gave comes back as it is.
        name: what to call it in messages.

    Raises:
        InputError: no photo by its type, shape or values. What is wrong with a file or its bytes
            is found when they are read.
    """
    if isinstance(photo, InMemory):
        return photo
    if isinstance(photo, Region):
        if isinstance(photo.photo, Region):
            raise InputError(f"{name}: a region of a region. Give one of the whole photo.")
        return Region(as_source(photo.photo, name), as_box(photo.box, f"{name}: box"))
    if isinstance(photo, str | os.PathLike):
        if photo == "":  # not the folder one is in
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
    raise InputError(
        f"{name}: {type(photo).__name__} is no photo. Give a path, the bytes of a file, an image "
        "of Pillow's, an array (height, width, 3) or a tensor (3, height, width)."
    )


def _unread_file(image: Image.Image) -> Path | None:
    """The file of an image that was opened and no more, which is read as all files are."""
    opened = isinstance(image, ImageFile.ImageFile) and image.tile and image.tell() == 0
    name = getattr(image, "filename", "")
    if opened and isinstance(name, str) and name and os.path.isfile(name):  # noqa: PTH113
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
    if photo.ndim == 3 and photo.shape[channels] in (1, 3, 4):
        return f": put the channels in their place with .{call}"
    if photo.ndim == 4:
        return ": give several as a list, or at the top of the argument"
    return ""


def _eight_bits(array: npt.NDArray[Any], name: str) -> npt.NDArray[np.generic]:
    """Pixels (H, W[, 3 or 4]) that Pillow takes: uint8, or uint16 of one channel."""
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
        found = "NaN among the values" if least != least else f"floats from {least:g} to {most:g}"
        raise InputError(
            f"{name}: {found}, but they have to lie in [0, 1]. Divide by the value of white, or "
            "give uint8 for 0 to 255."
        )
    pixels: npt.NDArray[np.uint8] = (np.clip(array, 0, 1) * 255).round().astype(np.uint8)
    return pixels
