"""The commands in the documentation work: every flag exists, and blocks run as they stand.

A block runs on drawings in place of photos; training and evaluating are made short by options that
are appended (`_SHORTER`). A block that cannot run here has a comment before it with the reason.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from documents import PAGES, Block, blocks, name_of
from fewshot_lite.cli.app import app
from fewshot_lite.core.files import models_folder
from fewshot_lite.demo.drawings import write_folder

_SHELL = ("sh", "bash")
#: Appended to commands that begin so, where the last of two values counts.
_SHORTER = {
    "pretrain": "--epochs 1 --batch-size 8 --image-size 32 --min-image-size 32",
    "meta-train": "--tasks 2 --tasks-per-step 2 --min-way 2 --max-way 2 --max-support 8"
    " --max-shot 3 --queries 2 --image-size 32 --precision float32",
    "evaluate": "--tasks 2 --queries 2 --precision float32",
    "lambda-search": "--tasks 2 --queries 2 --inner-steps 1",
    "meta-train*maml": "--inner-lr 0.00001",  # after one epoch, longer steps diverge
}
_COMMAND = re.compile(r"(?:fewshot-lite|-m fewshot_lite) (?P<words>[^|&;#]+)")


def commands(block: Block) -> list[list[str]]:
    """The words after `fewshot-lite` in each line of a block."""
    text = block.text.replace("\\\n", " ")
    return [shlex.split(match["words"].split("\n")[0]) for match in _COMMAND.finditer(text)]


def flags_of(words: list[str]) -> tuple[set[str], list[str]]:
    """All flags that a command has, and the rest of its words."""
    command: Any = typer.main.get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    found = {"--help", "-h", "--version", "--install-completion"}
    return found | {o for p in command.params for o in (*p.opts, *p.secondary_opts)}, words


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_flag_that_is_shown_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    spans = [Block("sh", code, None, None) for code in re.findall(r"`(fewshot-lite [^`]+)`", text)]
    for block in [*(b for b in blocks(page) if b.language in _SHELL), *spans]:
        for words in commands(block):
            known, rest = flags_of(words)
            shown = {w.partition("=")[0] for w in rest if re.match(r"--?[a-zA-Z0]", w)}
            assert shown <= known, " ".join(words)


def test_blocks_are_there_to_run() -> None:
    found = [block for page in PAGES for block in blocks(page) if block.reason is None]
    assert len([b for b in found if b.language == "sh"]) > 15
    assert len([b for b in found if b.language == "python"]) > 5


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that the pages take for granted, made of drawings."""
    home = tmp_path_factory.mktemp("world")
    kinds = ["mug", "key", "fish", "house", "leaf", "guitar"]
    write_folder(home / "images", kinds, 16, seed=0)
    for name, seed in (("my_objects", 1), ("studio", 2), ("street", 3)):
        write_folder(home / name, kinds[:2], 6, seed=seed)
        (home / name / "key").rename(home / name / "keys")
    write_folder(home / "others", kinds[:3], 12, seed=4)
    write_folder(home / "characters", kinds[3:], 12, seed=5)
    write_folder(home / "new_objects", ["fish"], 3, seed=6)
    write_folder(home / "more", kinds[3:5], 3, seed=7)
    photos = sorted((home / "more").rglob("*.jpg"))
    shutil.copytree(home / "more/leaf", home / "holiday")
    for path, name in zip(photos, ("photo.jpg", "cup1.jpg", "cup2.jpg"), strict=False):
        shutil.copy(path, home / name)
    shutil.rmtree(home / "more")
    return home


@pytest.mark.slow
@pytest.mark.skipif(
    not any(models_folder().glob("*.safetensors")), reason="no shipped model in this checkout"
)
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_blocks_run(page: Path, world: Path, tmp_path: Path) -> None:
    chosen = [block for block in blocks(page) if block.reason is None]
    script = "".join(block.text for block in chosen if block.language == "python")
    if not script and not any(block.language in _SHELL for block in chosen):
        return
    home = tmp_path / "home"
    shutil.copytree(world, home)
    for block in chosen:
        if block.title:
            (home / block.title).write_text(block.text, encoding="utf-8")
        if block.language in _SHELL:
            execute(["bash", "-euo", "pipefail", "-c", _shell(block.text)], home)
    if script:
        execute([sys.executable, "-W", "error", "-c", script], home)


def _shell(text: str) -> str:
    """A block with `fewshot-lite` and `python` those of this environment."""
    cases = "".join(
        f'case "$*" in {pattern}*) set -- "$@" {more};; esac; '
        for pattern, more in _SHORTER.items()
    )
    own = shlex.quote(sys.executable)
    return (
        f'python() {{ {own} "$@"; }}\n'
        f'fewshot-lite() {{ {cases}python -m fewshot_lite "$@"; }}\n{text}'
    )


def execute(command: list[str], home: Path) -> None:
    """Run something that must succeed."""
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command[-1]}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
