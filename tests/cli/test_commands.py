"""The list of commands says of each what its help text says, and imports none of them."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from command_line import Run
from fewshot_lite.cli.app import app
from fewshot_lite.cli.commands import COMMANDS, prepare_help


@pytest.mark.parametrize("name", COMMANDS)
def test_summaries(name: str) -> None:
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    assert command.name == name
    assert command.help.split("\n\n")[0] == COMMANDS[name].summary


@pytest.mark.parametrize("words", [*([name] for name in COMMANDS), ["data", "check"]])
def test_help_at_80_columns(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = CliRunner().invoke(app, [*words, "--help"]).output
    assert max(map(len, shown.splitlines())) <= 80
    assert not re.search(r"<\w+(\[|\||>| range)", shown)  # types of Python
    assert "[default: (" not in shown
    command = typer.main.get_command(app)
    for word in words:
        command = command.commands[word]  # type: ignore[attr-defined]
    for parameter in command.params:
        text = f"{parameter.metavar or ''} {re.sub(r'.?.dim.*', '', parameter.help)}"  # type: ignore[attr-defined]
        assert [word for word in text.split() if word not in shown] == [], parameter.name


@pytest.mark.parametrize(
    ("words", "usage"),
    [
        ("adapt", "FOLDER"),
        ("classify", "PATH..."),
        ("remove", "MODEL [CLASS]..."),
        ("export", "[MODEL]"),
        ("evaluate", "MODEL... DATA..."),
        ("lambda-search", "MODEL DATA..."),
        ("data check", "PATH"),
    ],
)
def test_usage_is_as_it_is_typed(words: str, usage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = CliRunner().invoke(app, [*words.split(), "--help"], prog_name="fewshot-lite").output
    line = next(line for line in shown.splitlines() if "Usage:" in line)
    assert line.strip() == f"Usage: fewshot-lite {words} [OPTIONS] {usage}"


@pytest.mark.parametrize("words", [["--help"], []])
def test_the_list_imports_no_command(words: list[str]) -> None:
    code = (
        "import sys\n"
        "from fewshot_lite.cli.app import main\n"
        "try:\n    main()\n"
        "finally:\n"
        "    found = {n for n in sys.modules if n.startswith('fewshot_lite.')}\n"
        "    print(*sorted(found), 'rich.markdown' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
    )
    assert " lambda-search " in done.stdout + done.stderr
    *found, markdown = done.stderr.splitlines()[-1].split()
    assert set(found) == {
        f"fewshot_lite.{name}"
        for name in ("cli", "cli.app", "cli.commands", "cli.options", "core", "core.errors")
    }
    assert markdown == "False"


def test_ctrl_c_while_the_command_line_is_imported_is_one_line() -> None:
    """Whoever mistyped a command ends it within its first tenths of a second."""
    code = (
        "import runpy, sys\n"
        "class Interrupter:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'typer':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupter())\n"
        "runpy.run_module('fewshot_lite', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "Error: Interrupted.\n")


def test_rich_is_whole_after_help_was_prepared() -> None:
    prepare_help()
    from rich.markdown import Markdown
    from rich.traceback import Traceback

    assert Markdown("*x*").markup == "*x*"
    assert Traceback.__module__ == "rich.traceback"


def test_an_unknown_command_is_told_what_it_may_have_been() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fewshot_lite", "clasify"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "classify" in done.stderr


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["adapt", ""], "FOLDER"),
        (["adapt", "photos", "--output", ""], "--output"),
        (["adapt", ".", "-o", ""], "-o"),
        (["adapt", "photos", "--output="], "--output"),
        (["export", ""], "MODEL"),
        (["meta-train", "", "-o", "model.safetensors"], "DATA"),
    ],
)
def test_paths_of_no_letters_are_refused(words: list[str], name: str, run: Run) -> None:
    outcome = run(*words)
    assert outcome.code == 2
    assert f"{name} is an empty word. Give a path." in outcome.err
