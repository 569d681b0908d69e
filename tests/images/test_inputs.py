"""Whatever form a photo comes in, it is read as its file is."""

from __future__ import annotations

import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from fewshot_lite.core.errors import UsageError
from fewshot_lite.images.inputs import as_source, as_sources, is_photo
from fewshot_lite.images.photo import PhotoError, load_square, read_square

SIZE = 24


def read(photo: Any) -> np.ndarray[Any, Any]:
    return load_square(as_source(photo), SIZE)


@pytest.fixture
def file(tmp_path: Path, picture: Image.Image) -> Path:
    picture.save(tmp_path / "a.png")
    return tmp_path / "a.png"


def channels_first(pixels: np.ndarray[Any, Any]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


FORMS: dict[str, Any] = {
    "text": str,
    "path": Path,
    "bytes": lambda file: file.read_bytes(),
    "bytearray": lambda file: bytearray(file.read_bytes()),
    "opened": Image.open,
    "opened from bytes": lambda file: Image.open(io.BytesIO(file.read_bytes())),
    "loaded": lambda file: Image.open(file).convert("RGB"),
    "array": lambda file: np.asarray(Image.open(file)),
    "upside down in memory": lambda file: np.asarray(Image.open(file))[::-1].copy()[::-1],
    "alpha": lambda file: np.asarray(Image.open(file).convert("RGBA")),
    "floats": lambda file: np.asarray(Image.open(file)) / 255,
    "half": lambda file: (np.asarray(Image.open(file)) / 255).astype(np.float16),
    "16 bits": lambda file: np.asarray(Image.open(file)).astype(np.uint16) * 257,
    "tensor": lambda file: channels_first(np.asarray(Image.open(file))),
    "tensor of floats": lambda file: channels_first(np.asarray(Image.open(file))).float() / 255,
    "with gradient": lambda file: (
        channels_first(np.asarray(Image.open(file))).double() / 255
    ).requires_grad_(),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_photo_is_its_file(file: Path, form: str) -> None:
    photo = FORMS[form](file)
    assert np.array_equal(read(photo), load_square(file, SIZE))
    getattr(photo, "close", lambda: None)()


GREY: dict[str, Any] = {
    "array": lambda grey: grey,
    "one channel": lambda grey: grey[..., None],
    "floats": lambda grey: grey / np.float64(255),
    "16 bits": lambda grey: grey.astype(np.uint16) * 257,
    "tensor": torch.from_numpy,
    "tensor of one channel": lambda grey: torch.from_numpy(grey)[None],
}


@pytest.mark.parametrize("form", GREY)
def test_grey_photos_too(tmp_path: Path, picture: Image.Image, form: str) -> None:
    grey = np.asarray(picture.convert("L")).copy()
    grey[0, 0] = 255  # white is there
    Image.fromarray(grey).save(tmp_path / "grey.png")
    assert np.array_equal(read(GREY[form](grey)), load_square(tmp_path / "grey.png", SIZE))


def test_twelve_bits_in_sixteen_are_read_as_files_of_them_are(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 4096, (40, 40)).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    of_file = read_square(tmp_path / "deep.png", SIZE)
    of_array = read_square(as_source(values), SIZE)
    assert of_file.white == of_array.white == 4095
    assert np.array_equal(of_file.pixels, of_array.pixels)
    colours = np.stack([values] * 3, axis=-1)
    assert np.abs(read(colours).astype(int) - of_file.pixels).max() <= 1


def test_masks_are_black_and_white() -> None:
    mask = np.eye(SIZE, dtype=np.bool_)
    assert np.array_equal(read(mask)[..., 0], mask * 255)


def test_transparency_is_laid_on_white() -> None:
    clear = np.zeros((SIZE, SIZE, 4), np.uint8)
    assert (read(clear) == 255).all()
    assert (read(torch.from_numpy(clear).permute(2, 0, 1)) == 255).all()


@pytest.mark.parametrize("how", ["path", "opened", "loaded", "turned", "bytes"])
def test_photos_of_phones_are_turned_upright_once(
    tmp_path: Path, picture: Image.Image, how: str
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "phone.jpg"
    picture.save(path, exif=exif, quality=100, subsampling=0)
    image = Image.open(path)
    if how == "loaded":
        image.load()
    forms = {"path": path, "bytes": path.read_bytes(), "turned": ImageOps.exif_transpose(image)}
    found = read(forms.get(how, image))
    upright = read(picture.transpose(Image.Transpose.ROTATE_270))
    assert np.abs(found.astype(int) - upright).mean() < 4
    assert np.abs(found.astype(int) - read(picture)).mean() > 10


def test_what_was_handed_in_is_left_as_it_was(file: Path) -> None:
    image = Image.open(io.BytesIO(file.read_bytes()))
    before = image.size, image.mode
    array = np.asarray(Image.open(file)).copy()
    kept = array.copy()
    read(image), read(array)
    assert (image.size, image.mode) == before
    assert np.array_equal(array, kept)


def test_an_image_that_was_changed_after_it_was_opened_is_not_read_from_its_file(
    tmp_path: Path, file: Path
) -> None:
    image = Image.open(file)
    image.paste((255, 0, 0), (0, 0, *image.size))
    assert (read(image) == [255, 0, 0]).all()
    frames = [Image.new("RGB", (30, 30), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "two.gif", save_all=True, append_images=frames[1:])
    with Image.open(tmp_path / "two.gif") as second:
        second.seek(1)
        assert (read(second)[..., 2] > 200).all()


def test_one_image_may_be_read_by_many_threads(file: Path) -> None:
    image = Image.open(io.BytesIO(file.read_bytes()))
    sources = list(as_sources([image] * 32))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda source: load_square(source, SIZE), sources))
    assert all(np.array_equal(one, found[0]) for one in found)


@pytest.mark.parametrize(
    ("photo", "message"),
    [
        (np.zeros((3, 20, 30), np.uint8), r"X\[0\]: an array of shape.*transpose\(1, 2, 0\)"),
        (torch.zeros(20, 30, 3), r"X\[0\]: a tensor of shape.*permute\(2, 0, 1\)"),
        (np.zeros((2, 20, 30, 3), np.uint8), "give several as a list"),
        (np.zeros(784), r"X\[0\]: an array of shape \(784,\)"),
        (np.zeros((0, 5, 3), np.uint8), "no pixels"),
        ("", r"X\[0\]: an empty text"),
        (np.full((9, 9), 200.0), r"X\[0\]: floats from 200 to 200, but .* in \[0, 1\]\. Divide"),
        (np.full((9, 9), -9.0), "floats from -9"),
        (np.full((9, 9, 3), np.nan), r"NaN among the values.*\[0, 1\]"),
        (np.zeros((9, 9), np.int64), r"values of type int64.*astype\('uint8'\)"),
        (np.zeros((9, 9), np.complex64), "values of type complex64"),
        (torch.zeros(3, 9, 9, dtype=torch.int32), "values of type int32"),
        (None, r"X\[0\]: NoneType is no photo\. Give a path"),
        (io.BytesIO(), "BytesIO is no photo.*the bytes of a file"),
        (io.BytesIO(), r"\(\.read\(\)\)"),
        ({"a": "a.jpg"}, "dict is no photo"),
        (7, "int is no photo"),
    ],
)
def test_what_is_no_photo_is_named_with_the_remedy(photo: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        list(as_sources([photo], "X"))


@pytest.mark.parametrize("content", [b"", b"text", b"\x89PNG\r\n\x1a\n"])
def test_damaged_bytes_are_damaged_photos(content: bytes) -> None:
    source = as_source(content, "photos[3]")
    assert str(source) == "photos[3]"
    with pytest.raises(PhotoError):
        load_square(source, SIZE)


def test_one_photo_is_told_from_several() -> None:
    for one in (
        "a.jpg",
        Path("a.jpg"),
        b"",
        Image.new("L", (1, 1)),
        np.zeros((4, 4)),
        torch.ones(1),
        np.array(3),
        io.BytesIO(b"P6"),  # no photo, but to be refused as a whole
        {"a": "a.jpg"},
    ):
        assert is_photo(one)
    several = [[], ["a.jpg"], np.zeros((2, 4, 4, 3)), torch.zeros(2, 3, 4, 4), iter(()), None]
    for many in (*several, np.array(["a.jpg"]), np.array([None, "b"])):
        assert not is_photo(many)


def test_torch_is_not_imported_for_it() -> None:
    program = (
        "import sys, numpy as np; from fewshot_lite.images.inputs import as_source; "
        "from fewshot_lite.images.photo import load_square; "
        "load_square(as_source(np.zeros((9, 9), np.uint8)), 4); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)
