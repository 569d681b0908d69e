"""Photos: the same upright pixels whatever the format, and one line of reason where there are none.

pytest turns warnings into errors, so each of these tests also shows that none comes out.
"""

from __future__ import annotations

import io
import os
import struct
import sys
import threading
import time
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageFile, JpegImagePlugin, features

from benchmarks.reliability.hostile_images import icon, png
from fewshot_lite.core.errors import FewshotError
from fewshot_lite.images import opening
from fewshot_lite.images import photo as photos
from fewshot_lite.images.opening import MAX_PIXELS, PhotoError, pixel_limit
from fewshot_lite.images.photo import load_square, read_square

Turn = Image.Transpose
Pixels = npt.NDArray[np.int16]

#: How a camera held the wrong way stores an upright picture.
STORED = {
    1: None,
    2: Turn.FLIP_LEFT_RIGHT,
    3: Turn.ROTATE_180,
    4: Turn.FLIP_TOP_BOTTOM,
    5: Turn.TRANSPOSE,
    6: Turn.ROTATE_90,
    7: Turn.TRANSVERSE,
    8: Turn.ROTATE_270,
}

needs_avif = pytest.mark.skipif(
    "avif" not in features.modules or not features.check("avif"), reason="Pillow without AVIF"
)


@pytest.fixture
def heif() -> None:
    pytest.importorskip("pillow_heif").register_heif_opener()


def read(path: Path, size: int = 32, *, max_pixels: int | None = None) -> Pixels:
    with pixel_limit(max_pixels):
        pixels = load_square(path, size)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (size, size, 3)
    return pixels.astype(np.int16)


def difference(a: Pixels, b: Pixels) -> float:
    return float(np.abs(a - b).mean())


def reason(path: Path, *, max_pixels: int | None = None) -> str:
    """Why a file is not read: one short line that leaves the path to the caller."""
    with pixel_limit(max_pixels), pytest.raises(PhotoError) as caught:
        load_square(path, 32)
    text = str(caught.value)
    assert 0 < len(text) < 150
    assert len(text.splitlines()) == 1
    assert str(path) not in text
    assert path.name not in text
    return text


def exif(*entries: bytes) -> bytes:
    """EXIF data of 12-byte entries: tag, type, count, value or its place."""
    return (
        b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    )


def orientation(number: int) -> bytes:
    return struct.pack("<HHLHH", 0x0112, 3, 1, number, 0)


def save_turned(picture: Image.Image, number: int, path: Path, **options: Any) -> Path:
    turn = STORED[number]
    stored = picture if turn is None else picture.transpose(turn)
    stored.save(path, exif=exif(orientation(number)), **options)
    return path


# Upright


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.png", {}),
        ("a.webp", {"lossless": True}),
        ("a.tif", {}),
        ("a.tiff", {"compression": "tiff_lzw"}),
    ],
)
def test_all_orientations_give_the_same_pixels(
    picture: Image.Image, tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    picture.save(tmp_path / "upright.png")
    upright = read(tmp_path / "upright.png")
    for number in STORED:
        pixels = read(save_turned(picture, number, tmp_path / name, **options))
        np.testing.assert_array_equal(pixels, upright, err_msg=f"orientation {number}")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.jpg", {"quality": 95}),
        ("a.mpo", {"quality": 95}),
        pytest.param("a.avif", {"quality": 95}, marks=needs_avif),
        ("a.heic", {"quality": 95}),
    ],
)
def test_all_orientations_of_compressed_photos_give_nearly_the_same_pixels(
    picture: Image.Image,
    tmp_path: Path,
    name: str,
    options: dict[str, Any],
    request: pytest.FixtureRequest,
) -> None:
    if name == "a.heic":  # libheif turns the photo itself: it must not be turned twice
        request.getfixturevalue("heif")
    picture.save(tmp_path / "upright.png")
    upright = read(tmp_path / "upright.png")
    for number in STORED:
        pixels = read(save_turned(picture, number, tmp_path / name, **options))
        assert difference(pixels, upright) < 3, f"orientation {number}"


def test_all_orientations_hold_where_a_large_jpeg_is_decoded_at_reduced_scale(
    picture: Image.Image, tmp_path: Path
) -> None:
    large = picture.resize((960, 640))
    large.save(tmp_path / "upright.png")
    upright = read(tmp_path / "upright.png")
    for number in STORED:
        pixels = read(save_turned(large, number, tmp_path / "a.jpg"))
        assert difference(pixels, upright) < 3, f"orientation {number}"


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param([struct.pack("<HHLL", 0x010F, 2, 400, 60_000)], id="text behind the end"),
        pytest.param([struct.pack("<HHLL", 0x8769, 4, 1, 70_000)], id="directory behind the end"),
        pytest.param(
            [
                struct.pack("<HHLL", 0x010F, 5, 1, 8),
                struct.pack("<HHL4s", 0x0100, 2, 4, b"abc"),
            ],
            id="values of the wrong type",
        ),
    ],
)
def test_damaged_exif_data_do_not_keep_a_photo_from_being_turned(
    picture: Image.Image, tmp_path: Path, damage: list[bytes]
) -> None:
    picture.save(tmp_path / "upright.png")
    entries = [orientation(6), *damage]
    picture.transpose(Turn.ROTATE_90).save(tmp_path / "a.jpg", quality=95, exif=exif(*entries))
    assert difference(read(tmp_path / "a.jpg"), read(tmp_path / "upright.png")) < 3


@pytest.mark.parametrize(
    "data",
    [b"Exif\0\0what is this?", b"Exif\0\0II*\0", b"what is this?"],
    ids=["no directory", "cut short", "no header"],
)
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
def test_a_photo_with_exif_data_beyond_reading_is_taken_as_it_is(
    picture: Image.Image, tmp_path: Path, name: str, data: bytes
) -> None:
    picture.save(tmp_path / "upright.png")
    picture.save(tmp_path / name, quality=95, exif=data)
    assert difference(read(tmp_path / name), read(tmp_path / "upright.png")) < 6


# Modes


@pytest.mark.parametrize("mode", ["1", "L", "P"])
@pytest.mark.parametrize("name", ["a.png", "a.gif", "a.tif", "a.bmp"])
def test_black_and_white_grey_and_palette_become_rgb(
    picture: Image.Image, tmp_path: Path, mode: str, name: str
) -> None:
    image = picture.convert(mode)
    image.save(tmp_path / name)
    image.convert("RGB").save(tmp_path / "rgb.png")
    np.testing.assert_array_equal(read(tmp_path / name), read(tmp_path / "rgb.png"))


@pytest.mark.parametrize(("mode", "name"), [("CMYK", "a.jpg"), ("CMYK", "a.tif"), ("L", "a.jpg")])
def test_printers_colours_and_grey_jpegs_become_rgb(
    picture: Image.Image, tmp_path: Path, mode: str, name: str
) -> None:
    picture.convert(mode).save(tmp_path / name, quality=95)
    picture.convert(mode).convert("RGB").save(tmp_path / "rgb.png")
    assert difference(read(tmp_path / name), read(tmp_path / "rgb.png")) < 3


@pytest.mark.parametrize(
    ("lab", "rgb"),
    [
        ((54.29, 80.80, 69.89), (255, 0, 0)),
        ((87.82, -79.27, 80.99), (0, 255, 0)),
        ((29.57, 68.30, -112.03), (0, 0, 255)),
        ((86.08, -73.9, 34.3), (0, 247, 147)),  # where Pillow has (34, 247, 147)
        ((100, 0, 0), (255, 255, 255)),
        ((53.39, 0, 0), (127, 127, 127)),
    ],
)
@pytest.mark.parametrize("side", [40, 700])
def test_lab_colours_of_a_tiff_become_rgb(
    tmp_path: Path, lab: tuple[float, float, float], rgb: tuple[int, int, int], side: int
) -> None:
    """Of sRGB's corners by Lindbloom's calculator (D50), in whole numbers, as the file has them."""
    lightness, a, b = lab
    stored = bytes([round(2.55 * lightness), round(a) & 255, round(b) & 255])
    Image.frombytes("LAB", (side, side), stored * side**2).save(tmp_path / "a.tif")
    assert np.abs(read(tmp_path / "a.tif").astype(int) - rgb).max() <= 10  # of rounding L*a*b*


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp"])
def test_transparent_is_laid_on_white(
    picture: Image.Image, tmp_path: Path, mode: str, name: str
) -> None:
    image = picture.convert(mode)
    alpha = Image.new("L", picture.size, 255)
    alpha.paste(0, (0, 0, 48, 64))
    image.putalpha(alpha)
    image.save(tmp_path / name, lossless=True)
    picture.convert(mode).convert("RGB").save(tmp_path / "opaque.png")
    pixels, opaque = read(tmp_path / name), read(tmp_path / "opaque.png")
    assert pixels[:, :15].min() == 255
    np.testing.assert_array_equal(pixels[:, 17:], opaque[:, 17:])


@pytest.mark.parametrize(
    ("mode", "name"),
    [("1", "a.png"), ("L", "a.png"), ("RGB", "a.png"), ("P", "a.png"), ("P", "a.gif")],
)
def test_a_transparent_colour_is_laid_on_white(tmp_path: Path, mode: str, name: str) -> None:
    image = Image.new("RGB", (64, 64), "white")
    image.paste("black", (0, 0, 32, 64))
    image = image.quantize(2) if mode == "P" else image.convert(mode)
    black: Any = (0, 0, 0) if mode == "RGB" else image.getpixel((0, 0))
    image.save(tmp_path / name, transparency=black)
    assert read(tmp_path / name).min() == 255


def test_a_palette_with_shades_of_transparency_is_laid_on_white(tmp_path: Path) -> None:
    image = Image.new("P", (64, 64), 0)
    image.putpalette([0, 0, 0, 0, 0, 0])
    image.paste(1, (32, 0, 64, 64))
    image.save(tmp_path / "a.png", transparency=bytes([255, 51]))
    pixels = read(tmp_path / "a.png")
    assert pixels[:, :15].max() == 0
    assert set(pixels[:, 17:].ravel()) == {204}


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_16_bits_are_scaled_not_clipped(tmp_path: Path, name: str) -> None:
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64)
    Image.fromarray(ramp.astype(np.uint16)).save(tmp_path / name)
    Image.fromarray((ramp / 257).astype(np.uint8)).save(tmp_path / "8.png")
    deep, plain = read(tmp_path / name), read(tmp_path / "8.png")
    assert np.abs(deep - plain).max() <= 1
    assert np.corrcoef(deep.ravel(), plain.ravel())[0, 1] > 0.9999


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_fewer_bits_in_a_file_of_16_are_as_bright_as_8(
    tmp_path: Path, name: str, bits: int
) -> None:
    ramp = np.linspace(0, 1, 64 * 64).reshape(64, 64)
    Image.fromarray((ramp * (2**bits - 1)).round().astype(np.uint16)).save(tmp_path / name)
    Image.fromarray((ramp * 255).round().astype(np.uint8)).save(tmp_path / "8.png")
    assert np.abs(read(tmp_path / name) - read(tmp_path / "8.png")).max() <= 1
    assert read_square(tmp_path / name, 32).white == 2**bits - 1
    assert read_square(tmp_path / "8.png", 32).white is None


def test_16_bits_with_the_high_byte_first_are_scaled_as_well(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64)
    image = Image.frombytes("I;16B", (64, 64), ramp.astype(">u2").tobytes())
    image.save(tmp_path / "a.tif")
    Image.fromarray((ramp / 257).astype(np.uint8)).save(tmp_path / "8.png")
    assert np.abs(read(tmp_path / "a.tif") - read(tmp_path / "8.png")).max() <= 1


def test_16_bits_per_colour_become_8(picture: Image.Image, tmp_path: Path) -> None:
    rows = np.asarray(picture).astype(">u2") * 257
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rows)
    (tmp_path / "a.png").write_bytes(png(96, 64, zlib.compress(raw), (16, 2)))
    picture.save(tmp_path / "8.png")
    assert np.abs(read(tmp_path / "a.png") - read(tmp_path / "8.png")).max() <= 1


@pytest.mark.parametrize("top", [1.0, 255.0, 65535.0, 1e6, 3e38])
def test_floats_are_scaled_by_the_range_they_seem_to_have(tmp_path: Path, top: float) -> None:
    ramp = np.linspace(0, 1, 64 * 64).reshape(64, 64)
    Image.fromarray((ramp * top).astype(np.float32)).save(tmp_path / "a.tif")
    Image.fromarray((ramp * 255).round().astype(np.uint8)).save(tmp_path / "8.png")
    assert np.abs(read(tmp_path / "a.tif") - read(tmp_path / "8.png")).max() <= 1


@pytest.mark.parametrize("top", [255, 65535, 2**31 - 1])
def test_whole_numbers_of_32_bits_are_scaled_too(tmp_path: Path, top: int) -> None:
    ramp = np.linspace(0, 1, 64 * 64).reshape(64, 64)
    Image.fromarray((ramp * top).astype(np.int32)).save(tmp_path / "a.tif")
    Image.fromarray((ramp * 255).round().astype(np.uint8)).save(tmp_path / "8.png")
    assert np.abs(read(tmp_path / "a.tif") - read(tmp_path / "8.png")).max() <= 1


def test_floats_that_are_no_numbers_are_black_and_infinite_ones_white(tmp_path: Path) -> None:
    values = np.full((64, 64), 0.5, dtype=np.float32)
    values[:16], values[16:32], values[32:48] = np.nan, np.inf, -np.inf
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert read(tmp_path / "a.tif")[[4, 12, 20, 28], 16, 0].tolist() == [0, 255, 0, 128]


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_of_an_animation_the_first_frame_is_taken_whole(
    picture: Image.Image, tmp_path: Path, name: str
) -> None:
    first = picture.quantize(64) if name == "a.gif" else picture
    later = [first.transpose(Turn.ROTATE_180), first.transpose(Turn.FLIP_LEFT_RIGHT)]
    first.save(tmp_path / name, save_all=True, append_images=later, lossless=True, duration=90)
    first.convert("RGB").save(tmp_path / "first.png")
    with Image.open(tmp_path / name) as animation:
        assert getattr(animation, "n_frames", 1) == 3
    np.testing.assert_array_equal(read(tmp_path / name), read(tmp_path / "first.png"))


# Formats and endings


@pytest.mark.parametrize("name", ["A.JPG", "a.Jpg", "a.jpeg", "a.png", "a", "a.heic", "ä 🐈.jpg"])
def test_the_ending_and_its_case_do_not_matter(
    picture: Image.Image, tmp_path: Path, name: str
) -> None:
    picture.save(tmp_path / "photo.jpg")
    expected = read(tmp_path / "photo.jpg")
    (tmp_path / name).write_bytes((tmp_path / "photo.jpg").read_bytes())
    np.testing.assert_array_equal(read(tmp_path / name), expected)


@pytest.mark.usefixtures("heif")
@pytest.mark.parametrize("name", ["a.heic", "A.HEIC", "a.heif", "a.jpg"])
def test_heic_is_known_by_its_content(picture: Image.Image, tmp_path: Path, name: str) -> None:
    picture.save(tmp_path / "plain.png")
    picture.save(tmp_path / name, format="HEIF", quality=95)
    assert difference(read(tmp_path / name), read(tmp_path / "plain.png")) < 3


@pytest.mark.usefixtures("heif")
def test_heic_where_its_decoder_is_missing_says_what_to_do(
    picture: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture.save(tmp_path / "a.heic")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert "pip install pillow-heif, or export the photo as JPEG" in reason(tmp_path / "a.heic")


@needs_avif
def test_avif_without_support_in_pillow_says_what_to_install(
    picture: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture.save(tmp_path / "a.avif")
    monkeypatch.delitem(features.modules, "avif")
    assert "pip install --upgrade pillow" in reason(tmp_path / "a.avif")


@pytest.fixture
def no_program() -> Iterator[None]:
    """Starting a program fails the test."""

    def started(event: str, arguments: tuple[object, ...]) -> None:
        if event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn") and watching:
            watching.clear()
            pytest.fail(f"{event} {arguments}")

    watching = [True]
    sys.addaudithook(started)
    yield
    watching.clear()


def iptc(drawing: bytes) -> bytes:
    """An IPTC container around a file, which Pillow would open with whatever plugin takes it."""

    def field(record: int, number: int, data: bytes) -> bytes:
        return bytes([28, record, number]) + struct.pack(">H", len(data)) + data

    side = struct.pack(">H", 64)
    header = field(3, 60, b"\1\0") + field(3, 20, side) + field(3, 30, side)
    return header + field(3, 120, b"\5") + field(8, 10, drawing) + bytes(5)


@pytest.mark.usefixtures("no_program")
@pytest.mark.parametrize("kind", ["EPS", "EPS in IPTC", "PDF", "PCX", "SGI", "XBM", "ICNS"])
def test_formats_that_are_not_allowed_are_no_photos(
    picture: Image.Image, tmp_path: Path, kind: str
) -> None:
    buffer = io.BytesIO()
    picture.convert("1" if kind == "XBM" else "RGB").save(buffer, kind[:4].strip())
    data = buffer.getvalue()
    (tmp_path / "a.jpg").write_bytes(iptc(data) if kind == "EPS in IPTC" else data)
    assert reason(tmp_path / "a.jpg") == "not an image, or badly damaged"


@pytest.mark.parametrize("format", opening.FORMATS)
def test_formats_that_are_allowed_are_read(
    picture: Image.Image, tmp_path: Path, format: str, request: pytest.FixtureRequest
) -> None:
    if format == "HEIF":
        request.getfixturevalue("heif")
    if format == "AVIF" and not features.check("avif"):
        pytest.skip("Pillow without AVIF")
    picture.resize((64, 64)).save(tmp_path / "a", format)
    assert read(tmp_path / "a").std() > 10


def test_images_are_opened_in_one_place() -> None:
    source = Path(opening.__file__).parents[1]
    opening_them = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*.py")
        if "Image.open(" in path.read_text("utf-8")
    }
    assert opening_them == {"images/opening.py"}


# Sizes


def test_a_large_jpeg_at_reduced_scale_looks_as_one_decoded_in_full(
    picture: Image.Image, tmp_path: Path
) -> None:
    picture.resize((4000, 3000), Image.Resampling.BICUBIC).save(tmp_path / "a.jpg", quality=90)
    with Image.open(tmp_path / "a.jpg") as image:
        full = image.crop((500, 0, 3500, 3000)).resize((64, 64), Image.Resampling.BILINEAR)
    assert difference(read(tmp_path / "a.jpg", 64), np.asarray(full, dtype=np.int16)) < 0.5


@pytest.mark.parametrize(("size", "decoded"), [(64, (500, 375)), (300, (1000, 750))])
def test_a_large_jpeg_is_decoded_no_larger_than_it_need_be(
    picture: Image.Image,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    size: int,
    decoded: tuple[int, int],
) -> None:
    picture.resize((4000, 3000)).save(tmp_path / "a.jpg")
    loaded = []

    def load(image: Image.Image) -> Any:
        loaded.append(image.size)
        return ImageFile.ImageFile.load(image)

    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "load", load)
    square = read_square(tmp_path / "a.jpg", size)
    assert (square.width, square.height) == (4000, 3000)
    assert loaded[0] == decoded


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
@pytest.mark.parametrize("size", [(20_000, 100), (100, 20_000), (101, 64), (64, 101)])
def test_the_central_square_is_taken_of_any_shape(
    tmp_path: Path, name: str, size: tuple[int, int]
) -> None:
    width, height = size
    side = min(size)
    left, top = (width - side) // 2, (height - side) // 2
    image = Image.new("RGB", size, "blue")
    image.paste("red", (left, top, left + side, top + side))
    image.save(tmp_path / name, quality=95)
    red, _, blue = np.moveaxis(read(tmp_path / name, 24)[2:-2, 2:-2], -1, 0)
    assert red.min() > 240
    assert blue.max() < 15


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (3, 2)])
def test_images_of_a_few_pixels_are_enlarged(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size, (200, 100, 50)).save(tmp_path / "a.png")
    assert np.unique(read(tmp_path / "a.png").reshape(-1, 3), axis=0).tolist() == [[200, 100, 50]]


def test_200_megapixels_are_below_the_limit_although_pillow_would_refuse_them(
    tmp_path: Path,
) -> None:
    assert 2 * (Image.MAX_IMAGE_PIXELS or 0) < 200_000_000 < MAX_PIXELS
    Image.new("L", (20_000, 10_000), 90).save(tmp_path / "a.jpg")
    assert np.unique(read(tmp_path / "a.jpg")).tolist() == [90]


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.gif", "a.webp", "a.tif", "a.ico"])
def test_the_limit_that_a_program_has_set_in_pillow_does_not_count_and_stays(
    picture: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    picture.save(tmp_path / name)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    read(tmp_path / name)
    assert Image.MAX_IMAGE_PIXELS == 10
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert "1,000 pixels" in reason(tmp_path / name, max_pixels=1_000)
    assert Image.MAX_IMAGE_PIXELS is None


def test_the_limit_is_exact_and_named_with_the_size(picture: Image.Image, tmp_path: Path) -> None:
    picture.save(tmp_path / "a.png")
    read(tmp_path / "a.png", max_pixels=96 * 64)
    assert reason(tmp_path / "a.png", max_pixels=96 * 64 - 1).startswith(
        "96 x 64 is more than 6,143 pixels"
    )


def test_the_limit_of_all_reads_holds_within_and_is_put_back(
    picture: Image.Image, tmp_path: Path
) -> None:
    picture.save(tmp_path / "a.png")
    with pixel_limit(1_000):
        assert "more than 1,000 pixels" in reason(tmp_path / "a.png")
        read(tmp_path / "a.png", max_pixels=10_000)
        with pixel_limit(None), pixel_limit(96 * 64):
            read(tmp_path / "a.png")
        reason(tmp_path / "a.png")
    read(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["a.png", "a.tif", "progressive.jpg"])
def test_what_all_threads_decode_at_a_time_has_a_limit(
    picture: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    picture.save(tmp_path / name, **({"progressive": True} if name == "progressive.jpg" else {}))
    cost = {"a.png": 4, "a.tif": 12, "progressive.jpg": 4 + 6}[name]
    monkeypatch.setattr(opening, "MAX_PIXELS", 2.5 * cost * picture.width * picture.height / 4)
    busy, seen, lock = 0, [0], threading.Lock()

    def reduced(image: Image.Image, *_: object) -> Image.Image:
        nonlocal busy
        with lock:
            busy += 1
            seen.append(busy)
        time.sleep(0.005)
        with lock:
            busy -= 1
        return Image.new("RGB", (32, 32))

    monkeypatch.setattr(photos, "_reduced", reduced)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: read(tmp_path / name), range(16)))
    assert max(seen) == 2
    assert opening._in_use == 0


def test_an_image_beyond_the_common_limit_is_decoded_alone(
    picture: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "MAX_PIXELS", 10)
    picture.save(tmp_path / "a.png")
    read(tmp_path / "a.png")


@pytest.mark.parametrize(("name", "share"), [("a.tif", 3), ("a.webp", 4), ("a.jp2", 6)])
def test_formats_whose_decoders_take_more_memory_have_lower_limits(
    picture: Image.Image, tmp_path: Path, name: str, share: int
) -> None:
    picture.save(tmp_path / name)
    limit = share * picture.width * picture.height
    read(tmp_path / name, max_pixels=limit)
    assert "96 x 64 is more than 6,143 pixels of" in reason(tmp_path / name, max_pixels=limit - 1)


def test_a_jpeg_in_hundreds_of_passes_is_refused(picture: Image.Image, tmp_path: Path) -> None:
    picture.save(tmp_path / "a.jpg", progressive=True)
    data = (tmp_path / "a.jpg").read_bytes()
    passes = data.count(b"\xff\xda")
    assert 2 < passes <= 20
    pixels = picture.width * picture.height
    read(tmp_path / "a.jpg", max_pixels=pixels)
    scan = data[data.rindex(b"\xff\xda") : -2]
    (tmp_path / "b.jpg").write_bytes(data[:-2] + scan * 300 + data[-2:])
    assert f"a JPEG in {passes + 300:,} passes" in reason(tmp_path / "b.jpg", max_pixels=pixels)


@pytest.mark.parametrize("place", [2**20 - 1, 2**20, 2 * 2**20 - 1])
def test_scans_are_counted_across_the_parts_that_are_read(place: int) -> None:
    data = bytearray(3 * 2**20)
    data[place : place + 2] = b"\xff\xda"
    assert opening._count_scans(io.BytesIO(data)) == 1


def test_a_file_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.jpg").open("wb") as file:
        file.write(b"\xff\xd8\xff\xe0")
        file.truncate(opening.MAX_BYTES + 1)  # takes no room on the disk
    assert reason(tmp_path / "a.jpg") == "larger than 1,000 MB"


def test_bands_of_a_photo_give_what_the_whole_gives(
    picture: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = picture.convert("RGBA").resize((601, 403))
    large.putalpha(large.getchannel("R"))
    large.save(tmp_path / "a.png")
    deep = np.linspace(0, 4000, 601 * 403).reshape(403, 601).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    names = ("a.png", "deep.png")
    whole = [read(tmp_path / name) for name in names]
    monkeypatch.setattr(photos, "_BAND", 5_000)
    for name, expected in zip(names, whole, strict=True):
        np.testing.assert_array_equal(read(tmp_path / name), expected)


@pytest.mark.parametrize("size", [(64, 48), (49, 64), (300, 301), (601, 403)])
def test_colours_that_need_no_change_give_what_the_bands_give(
    picture: Image.Image, tmp_path: Path, size: tuple[int, int]
) -> None:
    plain = picture.convert("RGB").resize(size)
    plain.save(tmp_path / "a.png")
    plain.convert("RGBA").save(tmp_path / "opaque.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png"), read(tmp_path / "opaque.png"))


@pytest.mark.parametrize(("width", "side"), [(90, 30), (900, 300), (901, 300), (3003, 1000)])
@pytest.mark.parametrize("upright", [False, True])
def test_pixels_beyond_the_central_square_do_not_matter(
    tmp_path: Path, width: int, side: int, upright: bool
) -> None:
    image = Image.new("RGB", (width, side), "white")
    start = (width - side) // 2
    more = (width - side) % 2  # where it begins and ends in the middle of a pixel
    image.paste("black", (start, 0, start + side + more, side))
    image.transpose(Image.Transpose.ROTATE_90 if upright else Image.Transpose.ROTATE_180).save(
        tmp_path / "a.png"
    )
    assert read(tmp_path / "a.png").max() == 0


@pytest.mark.parametrize("side", [15_812, 60_000, 2**31 - 1])
@pytest.mark.parametrize("inside", ["PNG", "icon"])
def test_a_small_file_that_claims_gigapixels_is_refused_before_it_is_decoded(
    tmp_path: Path, side: int, inside: str
) -> None:
    data = png(side, side, zlib.compress(bytes(100)))
    if inside == "icon":
        data = icon(data)
    (tmp_path / "a.png").write_bytes(data)
    start = time.process_time()
    assert "more than 250,000,000 pixels" in reason(tmp_path / "a.png")
    assert time.process_time() - start < 1


# No photo


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    assert reason(tmp_path / "a.jpg") == "empty file (0 bytes)"


@pytest.mark.parametrize("share", [0.005, 0.3, 0.9])
@pytest.mark.parametrize("name", ["a.jpg", "large.jpg", "a.png", "a.bmp", "a.tif"])
def test_a_truncated_file(picture: Image.Image, tmp_path: Path, name: str, share: float) -> None:
    image = picture.resize((960, 640)) if name == "large.jpg" else picture
    buffer = io.BytesIO()
    image.save(buffer, {"jpg": "JPEG", "png": "PNG", "bmp": "BMP", "tif": "TIFF"}[name[-3:]])
    data = buffer.getvalue()
    (tmp_path / name).write_bytes(data[: max(20, int(len(data) * share))])
    assert reason(tmp_path / name) in ("truncated image", "not an image, or badly damaged")


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
@pytest.mark.parametrize(
    "name",
    ["a.webp", "a.gif", "a.ico", "a.jp2", "a.heic", pytest.param("a.avif", marks=needs_avif)],
)
def test_a_truncated_file_of_a_rarer_format(
    picture: Image.Image,
    tmp_path: Path,
    name: str,
    share: float,
    request: pytest.FixtureRequest,
) -> None:
    if name == "a.heic":
        request.getfixturevalue("heif")
    picture.save(tmp_path / name)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: int(len(data) * share)])
    reason(tmp_path / name)


@pytest.mark.parametrize(
    "content",
    [b"a", b"Dear diary,\n" * 99, b"<svg/>", bytes(5000), b"%PDF-1.4\n"],
    ids=["one letter", "text", "SVG", "zeros", "PDF"],
)
@pytest.mark.parametrize("name", ["a.jpg", "a.tga", "a.ico", "a.heic"])
def test_another_file_that_is_called_a_photo(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert reason(tmp_path / name).startswith("not an image")


@pytest.mark.parametrize("name", ["a.NEF", "a.dng", "a.cr2"])
def test_raw_data_is_not_read_by_the_small_picture_in_front(tmp_path: Path, name: str) -> None:
    Image.new("RGB", (16, 12)).save(tmp_path / name, "TIFF")
    assert reason(tmp_path / name) == "raw data of a camera: export it as JPEG"
    Image.new("RGB", (16, 12)).save(tmp_path / name, "JPEG")
    assert read_square(tmp_path / name, 8).width == 16


def test_an_archive_is_no_photo(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("mug/a.jpg", b"x")
    assert reason(tmp_path / "a.zip") == "a ZIP archive, not a photo: unpack it"


def test_a_film_that_is_called_a_photo(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x1cftypisom\0\0\2\0isomiso2mp41" + bytes(99))
    assert reason(tmp_path / "a.heic").startswith("a video, not a photo: give its name")


def test_a_missing_file(tmp_path: Path) -> None:
    assert reason(tmp_path / "a.jpg") == "no such file"
    (tmp_path / "b.jpg").symlink_to(tmp_path / "a.jpg")
    assert reason(tmp_path / "b.jpg") == "a link to a.jpg, which is not there"


def test_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").mkdir()
    assert reason(tmp_path / "a.jpg") == "a folder, not a photo"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    assert reason(tmp_path / "a.jpg") == "not a file"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_a_file_that_may_not_be_read(picture: Image.Image, tmp_path: Path) -> None:
    picture.save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").chmod(0)
    assert reason(tmp_path / "a.jpg") == "no permission to read it"


def test_errors_of_the_system_are_told_without_the_path(tmp_path: Path) -> None:
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    reason(tmp_path / "loop.jpg")
    reason(tmp_path / ("long" * 99 + ".jpg"))
    (tmp_path / "file").touch()
    reason(tmp_path / "file" / "a.jpg")


# Threads


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads take turns as often as they can, so that each sees the others half-way."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("restless")
@pytest.mark.parametrize("limit", [6_000, MAX_PIXELS])
def test_threads_do_not_disturb_one_another(
    picture: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    damaged = exif(orientation(6), struct.pack("<HHLL", 0x010F, 2, 400, 60_000))
    picture.save(tmp_path / "warns.jpg", exif=damaged)
    picture.save(tmp_path / "plain.png")
    picture.save(tmp_path / "checked.webp")  # Pillow checks its size within the decoder as well
    (tmp_path / "bomb.png").write_bytes(png(60_000, 60_000, zlib.compress(bytes(100))))
    paths = [tmp_path / name for name in ("warns.jpg", "plain.png", "checked.webp", "bomb.png")]

    def outcome(path: Path) -> bytes | str:
        try:
            return load_square(path, 16).tobytes()
        except PhotoError as error:
            return str(error)

    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    filters = list(warnings.filters)
    jobs = paths * 40
    with pixel_limit(limit), ThreadPoolExecutor(8) as pool:
        alone = {path: outcome(path) for path in paths}
        together = list(pool.map(outcome, jobs))
    for path, result in zip(jobs, together, strict=True):
        if isinstance(alone[path], bytes):
            assert result == alone[path]
        else:  # whether Pillow or we noticed decides if the size is named too
            assert isinstance(result, str)
            limits = {limit, limit // 4} if path.suffix == ".webp" else {limit}
            assert any(f"more than {most:,} pixels" in result for most in limits)
    assert Image.MAX_IMAGE_PIXELS == 10
    assert list(warnings.filters) == filters


def test_warnings_of_the_rest_of_the_program_still_come_out(
    picture: Image.Image, tmp_path: Path
) -> None:
    picture.save(tmp_path / "a.png")
    read(tmp_path / "a.png")
    image = Image.new("P", (2, 2))
    image.info["transparency"] = b"\0"
    with pytest.raises(UserWarning, match="Palette images"):
        image.convert("RGB")


@pytest.mark.parametrize(
    ("source", "size", "message"),
    [
        (None, 8, "source: NoneType is no path"),
        (b"a.jpg", 8, "source: bytes is no path"),
        ("a.jpg", 0, "size 0: must be"),
        ("a.jpg", 2.5, r"size 2\.5: must be a whole number"),
        ("a.jpg", "8", "size '8': must be a whole number"),
        ("a.jpg", 8, "no such file"),
    ],
)
def test_arguments_of_another_kind_are_named(source: Any, size: Any, message: str) -> None:
    with pytest.raises((FewshotError, PhotoError), match=message):
        load_square(source, size)
