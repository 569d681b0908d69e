"""What MkDocs makes from the sources: reference pages, the changelog, and formulas as MathML.

- `reference/commands.md` from the command line's own help, `reference/python.md` from what
  `fewshot_lite` exports, `reference/rooms.md` and a page for each room from modules' docstrings;
- `changelog.md` from `CHANGELOG.md`;
- TeX between dollar signs becomes MathML, which browsers show without a script or a network.
"""

from __future__ import annotations

import html
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

import fewshot_lite
from fewshot_lite.cli.app import app
from fewshot_lite.cli.commands import usage_word

_ROOT = Path(__file__).parents[1]
_PACKAGE = _ROOT / "src" / "fewshot_lite"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made from the sources."""
    pages = {
        "changelog.md": changelog(),
        "reference/commands.md": "".join(commands()),
        "reference/python.md": "".join(python_api()),
        "reference/rooms.md": "".join(rooms()),
        **{f"reference/rooms/{name}.md": room(name) for name in room_names()},
    }
    for path, text in pages.items():
        file = File.generated(config, path, content=text)
        if path.startswith("reference/rooms/"):  # reached from the list of rooms
            file.inclusion = InclusionLevel.NOT_IN_NAV
        files.append(file)
    return files


def on_page_content(content: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """MathML for what arithmatex has marked as TeX."""
    content = re.sub(r"\\\((.+?)\\\)(?=</span>)", lambda m: mathml(m[1], "inline"), content)
    return re.sub(
        r"\\\[\s*(.+?)\s*\\\](?=</div>)", lambda m: mathml(m[1], "block"), content, flags=re.DOTALL
    )


def mathml(tex: str, display: str) -> str:
    """A formula as `<math>`."""
    found: str = convert(html.unescape(tex), display=display)
    return found


def changelog() -> str:
    """`CHANGELOG.md` without links to files that the site does not have."""
    text = (_ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    return re.sub(r"\[([^\]]+)\]\((?!https://)[^)]+\)", r"\1", text)


def room_names() -> list[str]:
    """The packages of `fewshot_lite`."""
    return sorted(path.parent.name for path in _PACKAGE.glob("*/__init__.py"))


def modules(folder: Path) -> Iterator[str]:
    """Dotted names of a package's public modules, packages with a docstring of their own first."""
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(_PACKAGE.parent).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
        if not parts[-1].startswith("_"):
            yield ".".join(parts)


def rooms() -> Iterator[str]:
    """The list of rooms."""
    yield "# Rooms\n\n"
    yield "Every public name of every module. What holds the rooms apart is in the "
    yield "[architecture](../architecture.md#rooms).\n\n"
    for name in room_names():
        about = (importlib.import_module(f"fewshot_lite.{name}").__doc__ or "").strip()
        yield f"- [`{name}`](rooms/{name}.md): {about.splitlines()[0] if about else ''}\n"


def room(name: str) -> str:
    """The page of one room."""
    blocks = "\n\n".join(f"::: {module}" for module in modules(_PACKAGE / name))
    return f"# {name}\n\n{blocks}\n"


def python_api() -> Iterator[str]:
    """The page of what `fewshot_lite` exports."""
    yield "# Python API\n\n"
    yield "What `import fewshot_lite` gives, each name with a link to all about it.\n\n"
    yield "| Name | What it is |\n|---|---|\n"
    for name in fewshot_lite.__all__:
        if not name.startswith("__"):
            found = getattr(fewshot_lite, name)
            about = (found.__doc__ or "").strip().splitlines()[0]
            yield f"| [`{name}`][{found.__module__}.{name}] | {about} |\n"


def commands() -> Iterator[str]:
    """Every command with its arguments and flags."""
    yield "# Commands\n\nMade from `fewshot-lite COMMAND --help`.\n"
    yield from _commands(typer.main.get_command(app), ())


def _commands(command: Any, path: tuple[str, ...]) -> Iterator[str]:
    children = getattr(command, "commands", {})
    for name, child in children.items():
        yield from _commands(child, (*path, name))
    if children:
        return
    shown = [p for p in command.params if not getattr(p, "hidden", False) and p.name != "help"]
    arguments = [p for p in shown if not p.opts[0].startswith("-")]
    words = " ".join([*path, "[OPTIONS]", *map(usage_word, arguments)])
    yield f"\n## {' '.join(path)}\n\n{_plain(command.help)}\n\n"
    yield f"```text\nfewshot-lite {words}\n```\n\n| Argument or option | Meaning |\n|---|---|\n"
    for parameter in shown:
        names = [*parameter.opts, *parameter.secondary_opts]
        if parameter in arguments:
            names = [parameter.metavar]
        elif not parameter.is_flag:
            names[0] += f" {parameter.metavar}"
        about = " ".join(_plain(parameter.help).split()).replace("|", "\\|")
        default = parameter.default if parameter.show_default is True else None
        if default not in (None, False, True, "", ()) and not callable(default):
            about += f" Default: `{default}`."
        quoted = ", ".join(f"`{name}`" for name in names)
        yield f"| {quoted} | {about} |\n"
    example = _plain(command.epilog).removeprefix("Example: ")
    yield f"\nExample: `{example}`\n"


def _plain(text: str | None) -> str:
    """Without Rich's marks, with defaults as sentences."""
    text = re.sub(r"\\\[default: (.*)\]\[/dim\]", r"Default: \1.", text or "")
    return re.sub(r"\[/?(bold|cyan|dim)?\]", "", text).strip()
