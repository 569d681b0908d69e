"""Which engine opens a personal model, and that torch is not imported where it is not needed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import fewshot_lite
from exported import exported_small_personal
from fewshot_lite.core.errors import UsageError
from fewshot_lite.personal.exported_model import ExportedModel
from fewshot_lite.personal.loading import open_personal
from fewshot_lite.personal.personal_model import PersonalModel
from photos import draw_classes

EXPORT = Path(__file__).parents[2] / "docs/how-to/export.md"

#: Runs a program as the command line does, unless it imports what is named first.
_WITHOUT = """
import runpy, sys
sys.argv, banned = sys.argv[2:], sys.argv[1].split(",")
class Ban:
    def find_spec(self, name, path=None, target=None):
        assert name.partition(".")[0] not in banned, name
sys.meta_path.insert(0, Ban())
if sys.argv[0].endswith(".py"):
    runpy.run_path(sys.argv[0], run_name="__main__")
else:
    runpy.run_module(sys.argv[0], run_name="__main__")
"""


def run_without(banned: str, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _WITHOUT, banned, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A personal model, and an export of another one."""
    here = tmp_path_factory.mktemp("world")
    base = fewshot_lite.load()
    base.image_size = 64
    base.adapt(draw_classes(here / "things", {"mug": 3, "keys": 2})).save(here / "mine.safetensors")
    (here / "other.onnx").write_bytes(exported_small_personal())
    return here


def test_an_export_alone_will_do(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"There is no personal\.safetensors here"):
        open_personal()
    (tmp_path / "personal.onnx").write_bytes((world / "other.onnx").read_bytes())
    assert isinstance(open_personal(), ExportedModel)
    with pytest.raises(UsageError, match=r"--device cuda: personal\.onnx runs on the CPU"):
        open_personal("personal.onnx", device="cuda")
    with pytest.raises(UsageError, match=r"p\.pt2: .*Give the \.safetensors file"):
        open_personal("p.pt2")


def test_classify_without_torch(world: Path) -> None:
    things = world / "things"
    (world / "bad.jpg").write_text("no photo")
    got = run_without(
        "torch,torchvision,onnx",
        *("fewshot_lite", "classify", things, world / "bad.jpg"),
        *("--model", world / "mine.safetensors", "--json", "--top", 1, "--no-reject"),
    )
    assert got.returncode == 1, got
    answers = json.loads(got.stdout)
    expected = PersonalModel.load(world / "mine.safetensors").classify(
        [Path(answer["path"]) for answer in answers], reject=None
    )
    assert [answer["label"] for answer in answers] == [e.label for e in expected]
    assert answers[-1]["problem"] == "not an image, or badly damaged"


def test_the_example_needs_neither_torch_nor_this_package_and_prepares_photos_alike(
    world: Path, tmp_path: Path
) -> None:
    photos = [world / "things" / "mug" / "00.png", tmp_path / "large.jpg"]
    large = Image.radial_gradient("L").resize((900, 700)).convert("RGB")
    large.paste((200, 30, 60), (0, 0, 420, 300))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    large.save(photos[1], exif=exif)
    (example,) = re.findall(
        r"```py [^\n]*\n(.*?)```", EXPORT.read_text(encoding="utf-8"), re.DOTALL
    )
    program = world / "run_onnx.py"
    program.write_text(example, encoding="utf-8")
    got = run_without("torch,fewshot_lite", program, world / "other.onnx", *photos)
    assert got.returncode == 0, got
    answers = ExportedModel.load(world / "other.onnx").classify(photos)
    assert got.stdout.splitlines() == [
        f"{answer.path} ?" if answer.unknown else f"{answer.path} {answer.label} {p:.1%}"
        for answer in answers
        for p in [answer.labels[0][1]]
    ]


def test_a_device_that_is_not_there_is_one_clear_line(world: Path) -> None:
    personal = world / "mine.safetensors"
    for name in ("cuda:99", "abacus", ""):
        for load in (
            lambda device: fewshot_lite.load(device=device),
            lambda device: fewshot_lite.PersonalModel.load(personal, device=device),
            lambda device: fewshot_lite.FewShotClassifier(device=device).fit([b"", b""], "ab"),
        ):
            with pytest.raises(UsageError, match=f"device {name}: not available here"):
                load(name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top": 1.5}, "top 1.5: give 1 or more"),
        ({"top": "2"}, "top 2: give 1 or more"),
        ({"reject": "x"}, "reject 'x': give the share"),
        ({"frames": 1.5}, "frames 1.5: give a number from 1"),
        ({"frames": "8"}, "frames 8: give a number from 1"),
    ],
)
def test_options_of_other_types_are_refused(
    world: Path, options: dict[str, object], message: str
) -> None:
    personal = fewshot_lite.PersonalModel.load(world / "mine.safetensors")
    with pytest.raises(UsageError, match=message):
        personal.classify(b"text", **options)  # type: ignore[arg-type]


def test_options_of_adapting_of_other_types_are_refused(tmp_path: Path) -> None:
    folder = draw_classes(tmp_path / "things", {"a": 2, "b": 2})
    base = fewshot_lite.load()
    for options in ({"mirror": "no"}, {"frames": 1.5}, {"workers": "2"}, {"views": "3"}):
        with pytest.raises(UsageError, match=next(iter(options))):
            base.adapt(folder, **options)  # type: ignore[arg-type]
    for size in (0, "x", 1.5):
        with pytest.raises(UsageError, match="size"):
            fewshot_lite.check(folder, size)  # type: ignore[arg-type]
