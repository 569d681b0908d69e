"""White is the same in all photos of a folder, and in what a model adapted to it is asked."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from command_line import Run
from fewshot_lite.images.bit_depths import find_whites, in_words, recorded_whites, with_whites
from fewshot_lite.images.inputs import as_source
from fewshot_lite.images.photo import Source, Whites, read_square
from fewshot_lite.personal.editing import add
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.personal.personal_model import PersonalModel
from photos import draw_classes, tiny_model

RAMP = np.linspace(0, 1, 64 * 64).reshape(64, 64)


def grey(folder: Path, *tops: float, kind: type[np.generic] = np.uint16) -> list[Path]:
    """Photos of the same ramp with these largest values."""
    found = [folder / f"{number}.tif" for number in range(len(tops))]
    for path, top in zip(found, tops, strict=True):
        Image.fromarray((RAMP * top).astype(kind)).save(path)
    return found


def brightest(source: Source, whites: Whites) -> int:
    return int(read_square(source, 32, whites=whites).pixels.max())


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_a_dark_photo_stays_dark_beside_brighter_ones(tmp_path: Path, bits: int) -> None:
    top = 2**bits - 1
    dark, *others = grey(tmp_path, top / 16, *[top * 0.97] * 5)
    whites = find_whites([dark, *others])
    assert whites == {"I": top}
    assert brightest(dark, {}) > 50 or bits == 10  # by itself
    assert 10 < brightest(dark, whites) < 20
    assert brightest(others[0], whites) > 240


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_kinds_of_numbers_are_told_apart(tmp_path: Path, kind: type[np.generic]) -> None:
    (tmp_path / "ones").mkdir()
    paths = [*grey(tmp_path, 4000.0, kind=kind), *grey(tmp_path / "ones", 1.0, kind=np.float32)]
    whites = find_whites(paths)
    assert whites == ({"F": 65535.0} if kind is np.float32 else {"I": 4095.0, "F": 1.0})


@pytest.mark.parametrize("form", ["array", "bytes", "image"])
def test_photos_in_memory_count_as_well(form: str) -> None:
    def given(top: float) -> Any:
        pixels = (RAMP * top).astype(np.uint16)
        file = BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        return {"array": pixels, "bytes": file.getvalue(), "image": Image.fromarray(pixels)}[form]

    sources = [as_source(given(top)) for top in (200.0, 4000.0)]
    assert find_whites(sources) == {"I": 4095.0}
    assert brightest(sources[0], find_whites(sources)) < 20


def test_what_has_8_bits_or_cannot_be_read_tells_nothing(tmp_path: Path) -> None:
    draw_classes(tmp_path, {"mug": 2})
    (tmp_path / "mug" / "bad.png").write_bytes(b"text")
    (tmp_path / "mug" / "clip.mp4").write_bytes(b"text")
    paths = [*(tmp_path / "mug").iterdir(), tmp_path / "gone.tif"]
    assert find_whites(paths) == {}
    assert find_whites(paths, {"I": 4095.0}) == {"I": 4095.0}
    (deep,) = grey(tmp_path, 1000.0)
    deep.rename(tmp_path / "mug" / "no ending")
    assert find_whites([tmp_path / "mug" / "no ending"]) == {"I": 1023.0}


def test_a_stream_is_not_taken_as_a_whole(tmp_path: Path) -> None:
    (path,) = grey(tmp_path, 4000.0)
    taken = 0

    def endless() -> Iterator[Path]:
        nonlocal taken
        while True:
            taken += 1
            yield path

    stream, whites = with_whites(endless())
    assert whites == {"I": 4095.0}
    assert taken < 1000
    assert next(iter(stream)) == path


def test_white_is_said_where_it_is_news() -> None:
    assert in_words({}) == in_words({"I": 65535.0}) == in_words({"F": 1.0}) == ""
    assert "4,095 (12 bits) in all" in in_words({"I": 4095.0})
    assert in_words({"I": 4095.0}, {"I": 4095.0}) == ""
    assert "65,535 (16 bits)" in in_words({"I": 65535.0}, {"I": 4095.0})
    assert "100,000 in all" in in_words({"I": 1e5})


@pytest.mark.parametrize(
    "value",
    [None, 3, [4095], {"I": "x"}, {"I": -1}, {"I": float("nan")}, {"I": 10**400}, {"x": 1}],
)
def test_a_record_of_another_kind_is_none(value: object) -> None:
    assert recorded_whites({"whites": value}) == {}


def deepened(folder: Path, bits: int, share: float = 1.0) -> Path:
    """Photos made grey, with so many bits in files of 16 and a share of the light."""
    for path in sorted(folder.glob("**/*.png")):
        pixels = np.asarray(Image.open(path).convert("L"), np.float32) / 255
        Image.fromarray((pixels * share * (2**bits - 1)).round().astype(np.uint16)).save(path)
    return folder


def greyed(folder: Path) -> Path:
    for path in folder.glob("**/*.png"):
        Image.open(path).convert("L").save(path)
    return folder


def probabilities(model: PersonalModel, photos: Any) -> npt.NDArray[np.float64]:
    return np.array([sorted(p.labels)[0][1] for p in model.classify(photos, reject=None)])


SHOTS = {"keys": 4, "mug": 4}


@pytest.fixture(scope="module")
def base() -> MetaModel:
    return tiny_model()


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_answers_are_those_of_8_bits(base: MetaModel, tmp_path: Path, bits: int) -> None:
    plain = base.adapt(greyed(draw_classes(tmp_path / "plain", SHOTS)))
    deep = base.adapt(deepened(draw_classes(tmp_path / "deep", SHOTS), bits))
    asked = greyed(draw_classes(tmp_path / "asked", SHOTS, seed=1))
    copies = deepened(draw_classes(tmp_path / "copies", SHOTS, seed=1), bits)
    right = probabilities(plain, asked)
    for model in (plain, deep):
        assert probabilities(model, copies) == pytest.approx(right, abs=0.03)
        assert probabilities(model, asked) == pytest.approx(right, abs=0.03)


def test_a_dark_photo_alone_is_read_as_those_adapted_to(base: MetaModel, tmp_path: Path) -> None:
    deep = base.adapt(deepened(draw_classes(tmp_path / "deep", SHOTS), 12))
    dark = deepened(draw_classes(tmp_path / "dark", {"mug": 1}), 12, 0.05) / "mug" / "00.png"
    deep.save(tmp_path / "model.safetensors")
    again = PersonalModel.load(tmp_path / "model.safetensors")
    assert recorded_whites(again.provenance)["I"] == 4095
    eight = read_square(dark, 32, whites={"I": 4095.0}).pixels
    assert eight.max() < 20
    assert again.classify(dark).labels == again.classify(np.asarray(eight)).labels
    added = add(again, [dark], "night").model
    assert recorded_whites(added.provenance)["I"] == 4095
    assert added.classify(dark).adapted_to


@pytest.mark.slow
def test_the_commands_say_what_white_is(
    run: Run, base: MetaModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    base.save(Path("base.safetensors"))
    deepened(draw_classes(Path("deep"), SHOTS), 12)
    greyed(draw_classes(Path("plain"), SHOTS))
    said = "Grey photos of more than 8 bits: white is taken to be 4,095 (12 bits) in all."
    for model, line in (("deep", said), ("plain", "")):
        done = run("adapt", model, "--base", "base.safetensors", "-o", f"{model}.safetensors")
        assert (done.code, said in done.err) == (0, bool(line)), done.err
    assert said in run("classify", "deep", "-m", "plain.safetensors").err
    for model, asked in (("deep", "deep"), ("deep", "plain"), ("plain", "plain")):
        assert "white" not in run("classify", asked, "-m", f"{model}.safetensors").err
