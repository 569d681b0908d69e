"""The table of commands. A command's module is imported when it is run, so that help is fast."""

from __future__ import annotations

import contextlib
import functools
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from fewshot_lite.core.errors import UsageError


@dataclass(frozen=True)
class Entry:
    """A command, or a group of commands."""

    home: str
    """Its module in `cli`, and the function or `typer.Typer` in that: "adapt:adapt"."""
    summary: str
    """The first sentence of its help text."""
    example: str = ""
    """The arguments of an example."""


#: All commands, in the order of the help text.
COMMANDS: Mapping[str, Entry] = {
    "adapt": Entry(
        "adapt:adapt",
        "Learn the classes of a folder of photos, in one forward pass.",
        "./my_objects --output mine.safetensors",
    ),
    "check": Entry(
        "check:check",
        "Look for what is wrong with a folder of photos, without learning or writing anything.",
        "./my_objects --strict",
    ),
    "classify": Entry(
        "classify:classify",
        "Say which of your classes photos and videos show.",
        "photo.jpg holiday/ --top 1",
    ),
    "add": Entry(
        "edit:add",
        "Add photos and new classes to a personal model; the old photos are not needed.",
        "personal.safetensors ./new_objects --force",
    ),
    "remove": Entry(
        "edit:remove",
        "Remove classes or single photos from a personal model; the photos are not needed.",
        "personal.safetensors mug keys --force",
    ),
    "rename": Entry(
        "edit:rename",
        "Give a class of a personal model a new name.",
        "personal.safetensors mug 'red mug' --force",
    ),
    "undo": Entry(
        "edit:undo",
        "Put a personal model back as it was before it was written over.",
        "personal.safetensors",
    ),
    "suggest": Entry(
        "suggest:suggest",
        "List the photos without labels whose labels would help a personal model most.",
        "unsorted/ --number 20",
    ),
    "export": Entry(
        "export:export",
        "Write a personal model as one file that runs elsewhere, without fewshot-lite.",
        "personal.safetensors --format onnx",
    ),
    "serve": Entry(
        "serve:serve",
        "Open a page in the browser: webcam or photos in, live answers out, offline.",
        "./my_objects",
    ),
    "demo": Entry(
        "demo:demo",
        "Draw a few kinds of things, adapt to some of the drawings and classify the others.",
        "--output ./drawings",
    ),
    "info": Entry(
        "info:info",
        "Say what a file of fewshot-lite is, where it is from and what it scored.",
        "personal.safetensors",
    ),
    "pretrain": Entry(
        "pretrain:pretrain",
        "Train a backbone from scratch by supervised learning, where none can be downloaded.",
        "./images --output backbone.safetensors",
    ),
    "tune": Entry(
        "pretrain:tune",
        "Tune a trained backbone on many data sets at once, before meta-training on it.",
        "./images --backbone efficientnet_lite0 --output tuned.safetensors",
    ),
    "meta-train": Entry(
        "meta_train:meta_train",
        "Meta-train a model that adapts in one forward pass with LITE, or by gradient steps.",
        "./images -o model.safetensors",
    ),
    "evaluate": Entry(
        "evaluate:evaluate",
        "Compare models on exactly the same tasks: accuracy, intervals, cost.",
        "default cosine finetune-head ./images",
    ),
    "lambda-search": Entry(
        "lambda_search:lambda_search",
        "Find which layers need no update in adaptation: faster, with little accuracy lost.",
        "model.safetensors DATA",
    ),
    "data": Entry("data:app", "Look at data sets."),
}


def usage_word(argument: Any) -> str:
    """Return an argument as a usage line shows it: in brackets if it is optional."""
    word = argument.metavar or str(argument.name).upper()
    several = argument.nargs != 1 and not word.endswith("...")
    return (word if argument.required else f"[{word}]") + several * "..."


class _Readable:
    """Leave out of help what Typer shows of Python: types of arguments, braces in usage lines."""

    def get_params(self, ctx: Any) -> list[Any]:
        parameters: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for parameter in parameters:
            is_argument = parameter.param_type_name == "argument"
            if is_argument or getattr(parameter, "is_flag", False):
                parameter.display_type_rich = lambda ctx: None
            if is_argument:
                parameter.get_usage_pieces = lambda ctx, shown=parameter: [usage_word(shown)]
        return parameters


class Command(_Readable, TyperCommand):
    """A command that refuses an empty path, as an unset variable gives: `Path("")` is `.`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        words = [
            part for word in args for part in (word.split("=", 1) if word[:1] == "-" else [word])
        ]
        before_empty = [words[i - 1] if i else "" for i, word in enumerate(words) if not word]
        rest: list[str] = super().parse_args(ctx, args)
        flags = {flag for parameter in self.params for flag in parameter.opts}
        for parameter in self.params if before_empty else ():
            value = ctx.params.get(parameter.name)
            if Path() not in (value if isinstance(value, list) else [value]):
                continue
            is_argument = parameter.param_type_name == "argument"
            name = parameter.metavar or str(parameter.name).upper()
            for word in before_empty:
                if word in parameter.opts or (is_argument and word not in flags):
                    shown = name if is_argument else word
                    raise UsageError(f"{shown} is an empty word. Give a path.")
        return rest


@functools.cache
def _load(name: str) -> Any:
    """Import a command and build it with all its options."""
    entry = COMMANDS[name]
    module, _, attribute = entry.home.partition(":")
    function = getattr(import_module(f"fewshot_lite.cli.{module}"), attribute)
    if isinstance(function, typer.Typer):
        command = typer.main.get_command(function)
        command.name = name
        return command
    app = typer.Typer(add_completion=False, rich_markup_mode="rich")
    # Paragraphs break where the terminal ends, not where the source does.
    text = re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.cleandoc(function.__doc__ or ""))
    epilog = f"Example: fewshot-lite {name} {entry.example}"
    app.command(name, cls=Command, help=text, epilog=epilog)(function)
    return typer.main.get_command(app)


class _LazyCommands(Mapping[str, Any]):
    """The commands by name, imported when they are looked up."""

    def __getitem__(self, name: str) -> Any:
        return _load(name)

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class Group(_Readable, TyperGroup):
    """A group of commands."""


class LazyGroup(Group):
    """The group of `COMMANDS`, which imports only the command that is run."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands: Any = _LazyCommands()

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a stub with the command's summary, for the list of commands."""
        if cmd_name not in COMMANDS:
            return None
        return TyperCommand(name=cmd_name, help=COMMANDS[cmd_name].summary, rich_markup_mode="rich")

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        return name, self.commands[name] if name in COMMANDS else command, rest


class _Unused(ModuleType):
    """A stand-in for a module of which nothing is used."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def prepare_help() -> None:
    """Import Typer's help without Rich's Markdown and tracebacks: unused, and half of the time."""
    missing = [name for name in ("rich.markdown", "rich.traceback") if name not in sys.modules]
    for name in missing:
        sys.modules[name] = _Unused(name)
    with contextlib.suppress(ImportError, AttributeError, TypeError):  # of another Typer
        import_module("typer.rich_utils")
    for name in missing:
        del sys.modules[name]
