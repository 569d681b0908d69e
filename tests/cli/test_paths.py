"""A path that leads nowhere is one line that says what is wrong, whatever it was given as."""

from __future__ import annotations

import errno
import os
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import fewshot_lite
from command_line import Run, is_one_clear_line
from fewshot_lite.core.errors import InputError, UsageError
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.personal.personal_model import PersonalModel
from photos import contents, draw_classes, tiny_model

#: A path that leads nowhere, and what is said of it.
NOWHERE = {
    "loop": "a link that leads back to itself",
    "there": "a link that leads back to itself",
    "loop/inner": "a link that leads back to itself",
    "dangling": "a link to gone, which is not there",
    "text.txt/things": "text.txt is a file, not a folder",
    "text.txt/a/b": "text.txt is a file, not a folder",
    "n" * 300: "a name that is too long",
    "https:/a.b/c": "an address on the web, not a file",
}

#: Commands; {} is the path.
READING = [
    "adapt {} --base base.safetensors",
    "adapt things --labels {} --base base.safetensors",
    "adapt {} --labels table.csv --base base.safetensors",
    "adapt things --base {}/",
    "adapt things --base resnet18 --weights {}",
    "check {}",
    "check things --labels {}",
    "classify things/mug/00.png --model {}",
    "add {} things --force",
    "add mine.safetensors {} --force",
    "add mine.safetensors {} --class cup --force",
    "remove {} mug --force",
    "rename {} mug cup --force",
    "undo {}",
    "info {}",
    "suggest {} --model mine.safetensors",
    "suggest things --model {}",
    "export {}",
    "export mine.safetensors -o new.onnx --int8 {}",
    "evaluate base.safetensors {}",
    "evaluate ./{} things",
    "evaluate cosine:shufflenet_v2_x0_5 --support things --query {}",
    "evaluate cosine:{}/ things",
    "meta-train {} -o new",
    "meta-train things -o new --validate {} --validate-every 1",
    "pretrain {} -o new",
    "tune {} -o new",
    "lambda-search ./{} things",
    "lambda-search base.safetensors {}",
    "data check {}",
    "serve {}",
    "serve {} --api-only",
    "classify {} --watch --model mine.safetensors",
]


#: Commands; {} is the path of a file that they would write.
WRITING = [
    "adapt things --base base.safetensors -o {} --force",
    "classify things --model mine.safetensors --csv {}/ --force",
    "classify things --model mine.safetensors --sort-into {}",
    "rename mine.safetensors mug cup -o {} --force",
    "meta-train things -o {} --force",
    "demo -o {}",
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("paths")
    things = draw_classes(here / "things", {"mug": 2, "keys": 2})
    tiny_model().save(here / "base.safetensors")
    MetaModel.load(here / "base.safetensors").adapt(things).save(here / "mine.safetensors")
    (here / "text.txt").write_text("text")
    (here / "table.csv").write_text("mug/00.png,mug\nkeys/00.png,keys\n")
    (here / "loop").symlink_to("loop")
    (here / "there").symlink_to("back")
    (here / "back").symlink_to("there")
    (here / "dangling").symlink_to("gone")
    return here


@pytest.mark.parametrize("line", READING)
@pytest.mark.slow
def test_what_leads_nowhere_is_named_and_explained(
    run: Run, world: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.chdir(world)
    before = contents(world)
    for path, message in NOWHERE.items():
        outcome = run(*line.format(path).split())
        is_one_clear_line(outcome, 2, f"{path}.*: {message}.*[.] [A-Z]")
    assert contents(world) == before


@pytest.mark.parametrize("line", WRITING)
@pytest.mark.slow
def test_what_cannot_be_written_is_said_before_the_work(
    run: Run, world: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.chdir(world)
    before = contents(world)
    for path in ("loop", "loop/a", "text.txt/a", "text.txt/a/b", "none/a"):
        outcome = run(*line.format(path).split())
        is_one_clear_line(outcome, 2, f"{path}/?: .*[.] (Give|Create|Check) ")
        assert "text.txt" not in path or "text.txt is a file" in outcome.err
    assert contents(world) == before


def test_folders_and_photos_that_lead_nowhere_are_named_where_others_are_read(
    run: Run, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    draw_classes(tmp_path / "things", {"mug": 2, "keys": 2})
    (tmp_path / "things" / "cup").symlink_to("cup")
    (tmp_path / "things" / "pen").symlink_to("gone")
    links = {"a.jpg": "b.jpg", "b.jpg": "a.jpg", "c.jpg": "gone", "more": "more"}
    for name, target in links.items():
        (tmp_path / "things" / "mug" / name).symlink_to(target)
    reasons = {
        "things/cup": "a link that leads back to itself",
        "things/pen": "a link to gone, which is not there",
        "things/mug/a.jpg": "a link that leads back to itself",
        "things/mug/b.jpg": "a link that leads back to itself",
        "things/mug/c.jpg": "a link to gone, which is not there",
        "things/mug/more": "a link that leads back to itself",
    }
    base = world / "base.safetensors"
    adapted = run("adapt", "things", "--base", base, "--json")
    checked = run("check", "things", "--json")
    found = [item for item in checked.json["findings"] if item["kind"] == "skipped"]
    assert {item["path"]: item["reason"] for item in adapted.json["skipped"]} == reasons
    assert {item["paths"][0]: item["detail"] for item in found} == reasons
    (tmp_path / "few" / "mug").mkdir(parents=True)
    (tmp_path / "few" / "cup").symlink_to("cup")
    outcome = run("adapt", "few", "--base", base, "-o", "new.safetensors")
    is_one_clear_line(outcome, 1, r"one class.*\(cup: a link that leads")
    (tmp_path / "few" / "mug").rmdir()
    is_one_clear_line(run("check", "few"), 1, r"no class folders \(cup: a link that leads")


def test_a_photo_or_path_from_python_that_leads_nowhere(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world)
    personal, model = PersonalModel.load("mine.safetensors"), MetaModel.load("base.safetensors")
    for path, message in (NOWHERE | {"a\0b": "a name that no file can have"}).items():
        shown = re.escape(path.replace("\0", "\\0"))
        with pytest.raises(UsageError, match=f"photos: {shown}: {message}"):
            personal.classify(path)
        (answer,) = personal.classify([path])
        assert re.match(message, answer.problem or "")
        for call in (model.adapt, fewshot_lite.check, partial(fewshot_lite.add, personal)):
            with pytest.raises(UsageError, match=f"({shown}: {message}|NUL byte)") as caught:
                call(path)
            assert len(str(caught.value).splitlines()) == 1
    for opening in (MetaModel.load, PersonalModel.load, fewshot_lite.load, fewshot_lite.describe):
        with pytest.raises(InputError, match="has a NUL byte"):
            opening("a\0b")
    with pytest.raises(InputError, match=r"path: .* has a NUL byte"):
        personal.save("a\0b")
    with pytest.raises(InputError, match=r"folder: .* has a NUL byte"):
        fewshot_lite.run_demo("a\0b")


def test_where_one_may_not_look_that_is_said(
    run: Run, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world)
    whole = os.stat

    def stat(path: Any, **options: Any) -> os.stat_result:
        if "private" in str(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return whole(path, **options)

    monkeypatch.setattr(os, "stat", stat)
    for line in READING:
        path = "private/things"
        is_one_clear_line(run(*line.format(path).split()), 2, f"{path}.*: no permission to read it")
