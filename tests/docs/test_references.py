"""Modules and what they define, where docstrings and comments name them, are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import fewshot_lite

_SOURCE = Path(fewshot_lite.__file__).parent
_ROOMS = {path.name for path in _SOURCE.iterdir() if (path / "__init__.py").is_file()}
#: `room.module` or `room.module.Name.attribute`, as text in backticks.
_REFERENCE = re.compile(r"`((?:fewshot_lite\.)?([a-z_]+)(?:\.\w+)+)`")
_FILE = re.compile(r"`((?:benchmarks|tests|models|docs)/[\w./]+\.(?:py|sh|md))`")


def names_in(module: Path) -> set[str]:
    """Everything that a module defines, with methods and fields as Class.name."""
    found: set[str] = set()

    def collect(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                found.add(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                collect(node.body, f"{prefix}{node.name}.")
            if isinstance(node, ast.ImportFrom) and module.name == "__init__.py":
                found.update(alias.name for alias in node.names)
            targets = getattr(node, "targets", [getattr(node, "target", None)])
            found.update(prefix + t.id for t in targets if isinstance(t, ast.Name))

    collect(ast.parse(module.read_text(encoding="utf-8")).body, "")
    return found


def is_there(reference: str) -> bool:
    parts, place = reference.removeprefix("fewshot_lite.").split("."), _SOURCE
    while parts and (place / parts[0]).is_dir():
        place /= parts.pop(0)
    if parts and (place / f"{parts[0]}.py").is_file():
        return len(parts) == 1 or ".".join(parts[1:]) in names_in(place / f"{parts[0]}.py")
    if place == _SOURCE:  # which imports what it gives when it is asked for
        return parts[0] in fewshot_lite.__all__
    return not parts or ".".join(parts) in names_in(place / "__init__.py")


def test_what_docstrings_name_is_there() -> None:
    wrong = []
    for path in _SOURCE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        wrong += [
            f"{path.relative_to(_SOURCE)}: {name}"
            for name, first in _REFERENCE.findall(text)
            if first in _ROOMS | {"fewshot_lite"} and not is_there(name)
        ]
        wrong += [
            f"{path.relative_to(_SOURCE)}: {name}"
            for name in _FILE.findall(text)
            if not (_SOURCE.parents[1] / name).is_file()
        ]
    assert not wrong, "\n".join(wrong)
