"""What is wrong with a folder of photos: each kind of finding, and no finding where all is well."""

from __future__ import annotations

import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clouds import cropped, photo
from command_line import Run, is_one_clear_line
from fewshot_lite.cli import check as check_command
from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.files import DEFAULT_BASE, models_folder
from fewshot_lite.core.tensor_files import read_meta
from fewshot_lite.images.preflight import Finding, StrictError, check
from fewshot_lite.personal.base_argument import parse_base
from photos import SIZE, contents, tiny_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes with three good photos each."""
    for k, name in enumerate(("bag", "keys", "mug")):
        (tmp_path / "things" / name).mkdir(parents=True)
        for i in range(3):
            photo(3 * k + i).save(tmp_path / "things" / name / f"{i}.png")
    return tmp_path / "things"


def found(folder: Path, size: int = 96) -> list[tuple[str, list[str], tuple[str, ...]]]:
    """Kind, files relative to the folder and classes of all findings."""
    return [
        (item.kind, [path.relative_to(folder).as_posix() for path in item.paths], item.classes)
        for item in check(folder, size)
    ]


def copy(folder: Path, source: str, target: str) -> Path:
    (folder / target).write_bytes((folder / source).read_bytes())
    return folder / target


@pytest.mark.skipif(not any(models_folder().glob("*.safetensors")), reason="no shipped model")
def test_photos_are_tiny_by_what_the_shipped_model_sees() -> None:
    (shipped,) = parse_base(DEFAULT_BASE).files
    assert read_meta(shipped)["image_size"] == check_command._IMAGE_SIZE


def test_a_good_folder_has_no_findings(folder: Path) -> None:
    assert check(folder) == ()


def test_files_that_are_not_read_are_named_with_their_class(folder: Path) -> None:
    (folder / "mug" / "a.jpg").write_text("text")
    (folder / "mug" / "notes.txt").write_text("text")
    (folder / "stray.jpg").write_text("text")
    assert found(folder) == [
        ("skipped", ["mug/a.jpg"], ("mug",)),
        ("skipped", ["mug/notes.txt"], ("mug",)),
        ("skipped", ["stray.jpg"], ()),
    ]
    assert check(folder)[0].detail == "not an image, or badly damaged"


def test_photos_of_different_bit_depths_are_named(folder: Path) -> None:
    for name, bits in (("mug/0.png", 12), ("mug/1.png", 12), ("keys/0.png", 16)):
        grey = np.asarray(Image.open(folder / name).convert("L"), dtype=np.float32) / 255
        deep = (grey / grey.max() * (2**bits - 1)).astype(np.uint16)
        Image.fromarray(deep).save(folder / name)
    [finding] = check(folder)
    assert finding.kind == "bit-depth"
    assert len(finding.paths) == 3
    assert "2 at 4,095, 1 at 65,535" in finding.detail
    (folder / "keys" / "0.png").unlink()
    assert check(folder) == ()


def test_the_same_bytes_and_near_copies_within_a_class(folder: Path) -> None:
    copy(folder, "mug/1.png", "mug/copy of 1.png")
    photo(8).save(folder / "mug" / "2 again.jpg", quality=60)
    assert found(folder) == [
        ("same-file", ["mug/1.png", "mug/copy of 1.png"], ("mug",)),
        ("near-copy", ["mug/2 again.jpg", "mug/2.png"], ("mug",)),
    ]


def test_the_same_pixels_in_other_bytes_are_near_copies(folder: Path) -> None:
    photo(7).save(folder / "mug" / "x.bmp")
    assert found(folder) == [("near-copy", ["mug/1.png", "mug/x.bmp"], ("mug",))]
    data = bytearray((folder / "mug" / "1.png").read_bytes())
    (folder / "mug" / "y.png").write_bytes(data + b"1")
    (folder / "mug" / "z.png").write_bytes(data + b"2")  # of one length, but not the same
    members = ["mug/1.png", "mug/x.bmp", "mug/y.png", "mug/z.png"]
    assert found(folder) == [("near-copy", members, ("mug",))]


def test_of_files_that_are_the_same_near_copies_name_one(folder: Path) -> None:
    copy(folder, "mug/1.png", "mug/copy.png")
    photo(7).resize((96, 72)).save(folder / "mug" / "small.png")
    assert found(folder) == [
        ("same-file", ["mug/1.png", "mug/copy.png"], ("mug",)),
        ("near-copy", ["mug/1.png", "mug/small.png"], ("mug",)),
    ]


def test_one_photo_under_two_labels_comes_before_other_copies(folder: Path) -> None:
    copy(folder, "mug/1.png", "bag/x.png")
    cropped(photo(5), 0.3, 0.9).save(folder / "mug" / "cut.png")
    copy(folder, "bag/0.png", "bag/y.png")
    assert found(folder) == [
        ("two-labels", ["bag/x.png", "mug/1.png"], ("bag", "mug")),
        ("two-labels", ["keys/2.png", "mug/cut.png"], ("keys", "mug")),
        ("same-file", ["bag/0.png", "bag/y.png"], ("bag",)),
    ]
    details = [item.detail for item in check(folder)]
    assert details[0] == "the same file under 2 labels ('bag', 'mug')"
    assert details[1] == "one photo or nearly under 2 labels ('keys', 'mug')"


def test_a_link_to_a_photo_of_another_class_is_one_photo_under_two_labels(folder: Path) -> None:
    (folder / "bag" / "link.png").symlink_to(folder / "mug" / "1.png")
    assert found(folder) == [("two-labels", ["bag/link.png", "mug/1.png"], ("bag", "mug"))]


def test_a_copy_that_vanishes_while_it_is_looked_at_ends_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy(folder, "mug/1.png", "mug/x.png")
    monkeypatch.setattr("hashlib.file_digest", _raise)
    assert found(folder) == [("near-copy", ["mug/1.png", "mug/x.png"], ("mug",))]


def _raise(*_: object) -> None:
    raise OSError


def test_photos_that_are_enlarged_more_than_twice_are_tiny(folder: Path) -> None:
    photo(20).resize((48, 60)).save(folder / "mug" / "half.png")
    photo(21).resize((47, 60)).save(folder / "mug" / "less.png")
    assert found(folder) == [("tiny", ["mug/less.png"], ("mug",))]
    assert check(folder, 96)[0].detail == "47 x 60 pixels, and the model sees 96 x 96"
    assert found(folder, 94) == []


def test_classes_with_one_photo_or_none(folder: Path) -> None:
    (folder / "empty").mkdir()
    (folder / "broken").mkdir()
    (folder / "broken" / "a.jpg").touch()
    for name, kind in (("one", 20), ("many", 21)):
        (folder / name).mkdir()
        photo(kind).save(folder / name / "a.png")
    copy(folder, "many/a.png", "many/b.png")
    photo(21).save(folder / "many" / "c.jpg")
    assert found(folder) == [
        ("skipped", ["broken/a.jpg"], ("broken",)),
        ("no-photo", ["broken"], ("broken",)),
        ("no-photo", ["empty"], ("empty",)),
        ("one-photo", ["many"], ("many",)),
        ("one-photo", ["one"], ("one",)),
        ("same-file", ["many/a.png", "many/b.png"], ("many",)),
        ("near-copy", ["many/a.png", "many/c.jpg"], ("many",)),
    ]
    details = [item.detail for item in check(folder) if item.kind == "one-photo"]
    assert details == ["3 copies of one photo", "one photo only"]


def test_ten_times_as_many_photos_are_imbalance(folder: Path) -> None:
    for i in range(26):
        photo(30 + i).resize((96, 96)).save(folder / "mug" / f"more {i}.png")
    assert found(folder) == []
    photo(60).save(folder / "mug" / "another.png")
    assert found(folder) == [("imbalance", ["mug", "bag"], ("mug", "bag"))]
    assert check(folder)[0].detail == "30 photos of 'mug', 3 of 'bag'"


def test_one_class_has_nothing_to_be_told_from(tmp_path: Path) -> None:
    (tmp_path / "mug").mkdir()
    for i in range(2):
        photo(i).save(tmp_path / "mug" / f"{i}.png")
    assert found(tmp_path) == [("one-class", ["."], ("mug",))]


def test_what_scanning_refuses_is_refused_here(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        check(tmp_path / "gone")
    with pytest.raises(FewshotError, match="needs one folder per class"):
        check(tmp_path)


def test_adapt_finds_the_same_and_strict_forbids_it(folder: Path) -> None:
    model = tiny_model()
    good = model.adapt(folder, strict=True).adaptation
    assert good is not None
    assert good.findings == ()
    (folder / "bag" / "bad.jpg").touch()
    copy(folder, "mug/1.png", "bag/x.png")
    adaptation = model.adapt(folder).adaptation
    assert adaptation is not None
    assert adaptation.findings == check(folder, SIZE)
    assert [item.kind for item in adaptation.findings] == ["skipped", "two-labels"]
    with pytest.raises(StrictError, match="skipped 1, two-labels 1") as caught:
        model.adapt(folder, strict=True)
    assert caught.value.findings == adaptation.findings
    assert caught.value.exit_code == 1


def test_checking_does_without_torch(folder: Path) -> None:
    code = (
        "import sys; from fewshot_lite.cli.app import app; "
        f"app(['check', {str(folder)!r}], standalone_mode=False); "
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


# The command line


def test_check_prints_a_line_for_each_and_what_is_in_all(run: Run, folder: Path) -> None:
    outcome = run("check", folder)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == f"9 photos of 3 classes in {folder}: nothing found that is wrong.\n"
    copy(folder, "mug/1.png", "bag/[red]x.png")
    outcome = run("check", folder)
    assert (outcome.code, outcome.err) == (0, "")
    first, last = outcome.out.splitlines()
    named = f"{folder}/bag/[red]x.png, {folder}/mug/1.png"
    assert first == f"Two labels {named}: the same file under 2 labels ('bag', 'mug')"
    assert last == f"10 photos of 3 classes in {folder}: two labels 1."
    assert run("check", folder, "--strict").code == 1
    (folder / "bag" / "bad.jpg").touch()
    assert run("check", folder).code == 0
    for name in ("keys", "mug"):  # one class is left, which nothing can be told from
        for file in (folder / name).iterdir():
            file.write_text("text")
    assert run("check", folder).code == 1


def test_check_as_json_lists_all(run: Run, folder: Path) -> None:
    for i in range(60):
        (folder / "mug" / f"bad {i}.jpg").touch()
    outcome = run("check", folder, "--json", "--image-size", 400)
    assert (outcome.code, outcome.err) == (0, "")
    findings = outcome.json["findings"]
    assert sum(item["kind"] == "skipped" for item in findings) == 60
    assert sum(item["kind"] == "tiny" for item in findings) == 9
    assert outcome.json["files"] == {"bag": 3, "keys": 3, "mug": 63}
    assert findings[0] == {
        "kind": "skipped",
        "paths": [str(folder / "mug" / "bad 0.jpg")],
        "classes": ["mug"],
        "detail": "empty file (0 bytes)",
    }
    lines = run("check", folder).out.splitlines()
    assert lines[-2] == "Skipped 10 more (--json lists all)"


@pytest.mark.slow
def test_adapt_prints_findings_and_goes_on_unless_strict(run: Run, folder: Path) -> None:
    base, model = folder.parent / "base.safetensors", folder.parent / "mine.safetensors"
    tiny_model().save(base)
    copy(folder, "mug/1.png", "bag/x.png")
    before = contents(folder.parent)
    words = ("adapt", folder, "--base", base, "-o", model)
    outcome = run(*words, "--strict")
    assert (outcome.code, outcome.out) == (1, "")
    listed, error = outcome.err.splitlines()
    assert listed.startswith(f"Two labels {folder}/bag/x.png, {folder}/mug/1.png: the same file")
    assert error.startswith(f"Error: {folder}: not as --strict wants it (two-labels 1), e.g. ")
    is_one_clear_line(run(*words, "--strict", "--json"), 1, "two-labels 1")
    assert contents(folder.parent) == before
    outcome = run(*words)
    assert (outcome.code, outcome.err.splitlines()) == (0, [listed])
    assert "Adapted to 10 photos" in outcome.out
    outcome = run(*words, "--force", "--json")
    assert [item["kind"] for item in outcome.json["findings"]] == ["two-labels"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("check missing", 2, "missing: no such folder"),
        ("check", 2, "Missing argument"),
        ("check . --image-size 3", 2, "--image-size"),
        ("check . --max-pixels many", 2, "--max-pixels"),
        ("check .", 1, "needs one folder per class"),
    ],
)
def test_what_cannot_be_checked(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: str,
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    is_one_clear_line(run(*words.split()), code, message)


def test_a_finding_says_what_it_is_about() -> None:
    finding = Finding("tiny", (Path("a.png"),), ("mug",), "1 x 1 pixels")
    assert (
        StrictError(Path("things"), [finding])
        .args[0]
        .startswith("things: not as --strict wants it (tiny 1), e.g. a.png: 1 x 1 pixels.")
    )


def test_plain_photos_are_no_copies(folder: Path) -> None:
    Image.new("RGB", (200, 200), "black").save(folder / "mug" / "dark.png")
    Image.new("RGB", (200, 200), "white").save(folder / "keys" / "light.png")
    assert found(folder) == []


def layout(root: Path, *homes: str) -> Path:
    """A photo of its own in each of these folders."""
    for number, home in enumerate(homes):
        (root / home).mkdir(parents=True, exist_ok=True)
        photo(number).save(root / home / f"{number}.png")
    return root


@pytest.mark.parametrize(
    ("homes", "meant"),
    [
        (("photos/mug", "photos/keys", "held-back/mug", "held-back/keys"), "held-back"),
        (("photos/mug", "photos/keys", "photos/bag", "kept/mug", "kept/keys"), "photos"),
        (("a/mug", "a/keys", "b/mug"), "a"),
        (("mug/day1", "mug/day2", "keys/day1", "keys/day2"), "keys"),  # it may be; nothing fails
        (("my photos/mug/x", "my photos/keys", "my photos/mug", "b/mug", "b/keys/y"), "my photos"),
    ],
)
def test_folders_of_the_same_names_in_all_classes_are_told(
    tmp_path: Path, homes: tuple[str, ...], meant: str
) -> None:
    root = layout(tmp_path / "d", *homes)
    [finding] = [item for item in check(root) if item.kind == "level"]
    assert set(finding.classes) == {home.partition("/")[0] for home in homes}
    assert finding.detail.endswith(f"fewshot-lite adapt {shlex.quote(str(root / meant))}")


@pytest.mark.parametrize(
    "homes",
    [
        ("mug", "keys"),
        ("mug/images", "keys/images"),
        ("mug/a", "mug/b", "keys/c", "keys/d"),
        ("mug/day1", "mug/day2", "keys/day1", "keys"),
        ("mug/day1", "mug/day2", "keys/day1", "keys/day2", "bag/night"),
    ],
)
def test_other_folders_in_class_folders_are_nothing_to_tell(
    tmp_path: Path, homes: tuple[str, ...]
) -> None:
    found = check(layout(tmp_path / "d", *homes))
    assert "level" not in {item.kind for item in found}


def test_the_level_is_told_of_archives_and_by_adapt(run: Run, tmp_path: Path) -> None:
    root = layout(tmp_path / "d", "a/mug", "a/keys", "b/mug", "b/keys")
    tiny_model().save(tmp_path / "base.safetensors")
    said = run("adapt", root, "--base", tmp_path / "base.safetensors", "-o", tmp_path / "m.st")
    assert said.code == 0, said.err
    assert [line for line in said.err.splitlines() if line.startswith("Level ")]
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        for name, data in contents(root).items():
            archive.writestr(name, data)
    [finding] = [item for item in check(tmp_path / "d.zip") if item.kind == "level"]
    assert finding.detail.endswith("unpack the archive and give the folder 'a'")
