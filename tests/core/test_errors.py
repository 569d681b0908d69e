"""On the command line messages speak of flags, in Python of arguments."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fewshot_lite
from command_line import Run, is_one_clear_line
from fewshot_lite.core import errors
from fewshot_lite.core.errors import FewshotError, UsageError, damage_as, worded
from fewshot_lite.images.opening import pixel_limit
from fewshot_lite.images.photo import PhotoError, load_square
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.personal.personal_model import PersonalModel
from photos import draw_classes, tiny_model


@pytest.fixture
def of_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "_naming_flags", False)


@pytest.fixture(scope="module")
def base() -> MetaModel:
    return tiny_model()


@pytest.mark.usefixtures("of_python")
@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("--reject 5: give the share", "reject 5: give the share"),
        ("x: exists already. Use --force to overwrite it.", "x: exists already. Use force=True to"),
        ("--views, --mirror: must be left out", "views, mirror: must be left out"),
        ("Lower --max-way (or --shot).", "Lower max_way (or shot)."),
        ("--model a--b/--c.safetensors: no such file", "path a--b/--c.safetensors: no such file"),
        (
            "Make one with `fewshot-lite adapt F --force`.",
            "Make one with `fewshot-lite adapt F --f",
        ),
        ("Try pip install --upgrade pillow", "Try pip install --upgrade pillow"),
        ("a base (meta-train --learner maml)", "a base (meta-train --learner maml)"),
        ("2--3 photos -- or more", "2--3 photos -- or more"),
    ],
)
def test_flags_are_said_as_arguments(written: str, said: str) -> None:
    assert str(UsageError(written)).startswith(said)
    assert UsageError(written).args == (written,)
    with errors.speaking_of_flags():
        assert str(UsageError(written)) == worded(written) == written


@pytest.mark.usefixtures("of_python")
def test_what_python_raises_names_arguments(base: MetaModel, tmp_path: Path) -> None:
    folder = draw_classes(tmp_path / "things", {"mug": 2, "keys": 2})
    personal = base.adapt(folder)
    personal.save(tmp_path / "mine.safetensors")
    calls: list[tuple[Callable[[], Any], str]] = [
        (lambda: base.adapt(folder, views=5), "views 5: give 1 or 3"),
        (lambda: base.adapt(folder, views=1, mirror=True), "mirror: there are no .* with views 1"),
        (lambda: base.adapt(folder, head="x"), "head: 'x' is none of"),  # type: ignore[arg-type]
        (lambda: base.adapt(folder, refine=1), "refine: 1 is none of 'off'"),  # type: ignore[arg-type]
        (lambda: personal.classify([], reject=2), "reject 2: give the share"),
        (lambda: personal.save(tmp_path / "mine.safetensors"), "exists already. Use force=True"),
        (lambda: PersonalModel.load(tmp_path / "none.safetensors"), "^path .*: no such file"),
        (lambda: fewshot_lite.load("none.safetensors"), "^base none.safetensors: no such file"),
        (lambda: fewshot_lite.add(personal, folder / "mug"), "Say what they show with name, e"),
    ]
    for call, message in calls:
        with pytest.raises(FewshotError, match=message) as raised:
            call()
        assert "--" not in str(raised.value), message


@pytest.mark.usefixtures("of_python")
def test_reasons_of_photos_do_too(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(tmp_path / "a.png")
    with pixel_limit(100), pytest.raises(PhotoError, match=r"\(max_pixels raises the limit\)"):
        load_square(tmp_path / "a.png", 8)


@pytest.mark.usefixtures("of_python")
def test_commands_name_flags(run: Run) -> None:
    is_one_clear_line(run("classify", "x.jpg", "--reject", "7"), 2, "^Error: --reject 7: give")
    assert str(UsageError("--reject 7")) == "reject 7"


def test_a_damaged_file_is_one_line_however_many_tensors_it_lacks() -> None:
    lacking = RuntimeError("Error(s):\n\tMissing key(s): " + str([f"w{i}" for i in range(99)]))
    with pytest.raises(FewshotError) as caught, damage_as("a.safetensors: damaged"):
        raise lacking
    assert str(caught.value).startswith("a.safetensors: damaged (Missing key(s): ['w0', 'w1', ")
    assert "…). Take another copy" in str(caught.value)
    assert len(str(caught.value)) < 300
