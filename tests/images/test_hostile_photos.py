"""A folder of forty hostile files and a few good ones: all is done, and each bad file is named."""

from __future__ import annotations

import contextlib
import struct
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from command_line import Outcome, Run
from fewshot_lite.images.photo import PhotoError, load_square
from hostile import write_hostile, write_odd
from photos import contents, draw_classes, tiny_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Classes "mug" and "keys", three good photos each."""
    home = tmp_path_factory.mktemp("hostile")
    tiny_model().save(home / "base.safetensors")
    return draw_classes(home / "things", {"mug": 3, "keys": 3})


@pytest.fixture(scope="module")
def bad(folder: Path) -> set[str]:
    """The bad files, beside the good ones of a class."""
    paths = write_hostile(folder / "mug" / "bad")
    assert len(paths) >= 40
    return set(map(str, paths))


@pytest.fixture(scope="module")
def odd(folder: Path) -> set[str]:
    return set(map(str, write_odd(folder / "mug" / "odd")))


def adapt(run: Run, folder: Path, *words: object) -> Outcome:
    base = folder.parent / "base.safetensors"
    output = folder.parent / "mine.safetensors"
    return run("adapt", folder, "--base", base, "-o", output, "--force", *words)


@pytest.mark.slow
def test_adapt_names_each_once_and_learns_from_the_others(
    run: Run, folder: Path, bad: set[str], odd: set[str]
) -> None:
    outcome = adapt(run, folder, "--json")
    assert outcome.code == 0  # a model was written
    assert Counter(item["path"] for item in outcome.json["skipped"]) == Counter(bad)
    assert outcome.json["classes"] == {"keys": 3, "mug": 3 + len(odd)}
    for item in outcome.json["skipped"]:
        assert 0 < len(item["reason"]) < 130, item
        assert "/" not in item["reason"], item
    again = adapt(run, folder)
    assert again.code == 0
    assert "Adapted to " in again.out
    skipped = [line for line in again.err.splitlines() if line.startswith("Skipped")]
    assert len(skipped) == len(set(skipped)) == len(bad)
    assert outcome.err.splitlines() == skipped  # beside JSON alone on stdout


@pytest.mark.slow
def test_classify_names_each_once_and_answers_for_the_others(
    run: Run, folder: Path, bad: set[str], odd: set[str]
) -> None:
    adapt(run, folder)
    outcome = run("classify", folder, "-m", folder.parent / "mine.safetensors", "--json")
    assert outcome.code == 1
    failed = Counter(answer["path"] for answer in outcome.json if answer["problem"])
    assert failed == Counter(bad)
    assert len(outcome.json) == len(bad) + len(odd) + 6
    outcome = run("classify", folder, "-m", folder.parent / "mine.safetensors")
    assert outcome.code == 1
    assert len(outcome.out.splitlines()) == len(odd) + 6
    assert sum(line.startswith("Skipped") for line in outcome.err.splitlines()) == len(bad)


def test_check_names_each_once(run: Run, folder: Path, bad: set[str], odd: set[str]) -> None:
    outcome = run("check", folder, "--image-size", 32, "--json")
    assert (outcome.code, outcome.err) == (0, "")  # adapt would write a model
    found = [item for item in outcome.json["findings"] if item["kind"] == "skipped"]
    assert Counter(path for item in found for path in item["paths"]) == Counter(bad)
    assert all(item["classes"] == ["mug"] for item in found)
    tiny = [item["paths"] for item in outcome.json["findings"] if item["kind"] == "tiny"]
    assert [Path(path).name for (path,) in tiny] == ["a line.png", "one pixel.png"]


def test_strict_fails_in_one_line_and_writes_nothing(run: Run, folder: Path, bad: set[str]) -> None:
    before = contents(folder.parent)
    outcome = adapt(run, folder, "--strict")
    assert outcome.code == 1
    assert outcome.out == ""
    errors = [line for line in outcome.err.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert f"skipped {len(bad)}" in errors[0]
    assert contents(folder.parent) == before


@pytest.mark.slow
def test_the_limit_of_pixels_can_be_raised_and_lowered(run: Run, folder: Path) -> None:
    home = draw_classes(folder.parent / "large", {"mug": 2, "keys": 2})
    Image.new("L", (101, 100), 9).save(home / "mug" / "large.png")
    model = folder.parent / "large.safetensors"
    commands = {
        "check": ("check", home),
        "adapt": ("adapt", home, "--base", folder.parent / "base.safetensors", "-o", model),
        "classify": ("classify", home, "-m", model),
    }
    for name, words in commands.items():
        force = ("--force",) if name == "adapt" else ()
        low = run(*words, *force, "--max-pixels", 10_099)
        assert low.code == (1 if name == "classify" else 0), name
        assert "large.png: 101 x 100 is more than 10,099 pixels (--max-pixels" in low.out + low.err
        assert run(*words, *force, "--max-pixels", 10_100).code == 0, name
        assert run(*words, *force).code == 0, name  # the limit of one run is not that of the next
    assert run("check", home, "--max-pixels", 0).code == 2


def test_decoders_write_nothing_to_stderr(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """libtiff would, in its own words, and the last resort of `logging`."""
    picture = Image.effect_noise((64, 64), 90).convert("RGB")
    for kind in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
        path = tmp_path / f"{kind}.tif"
        picture.save(path, compression=kind)
        data = bytearray(path.read_bytes())
        data[40:60] = bytes(range(235, 255))
        path.write_bytes(data)
    channels = struct.pack("<HHLHH", 277, 3, 1, 9999, 0)  # samples per pixel, more than there are
    (tmp_path / "channels.tif").write_bytes(struct.pack("<2sHLH", b"II", 42, 8, 1) + channels)
    for path in tmp_path.iterdir():
        with contextlib.suppress(PhotoError):
            load_square(path, 32)
    assert capfd.readouterr().err == ""
