"""Imports go down only, as the table of rooms in docs/architecture.md has it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import fewshot_lite

_SOURCE = Path(fewshot_lite.__file__).parent
_TABLE = Path(__file__).parents[1] / "docs" / "architecture.md"
_ROW = re.compile(r"\| `(\w+)` \|[^|]*\|([^|]*)\|")


def _rooms() -> dict[str, list[str]]:
    """The table: room -> the rooms that it may import, from the top down."""
    return {room: re.findall(r"`(\w+)`", below) for room, below in _ROW.findall(_TABLE.read_text())}


def _imports(source: str) -> Iterator[str]:
    """What a module imports from the package, wherever in it: "core.errors", "__version__"."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports do not tell the room"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (
            name.removeprefix("fewshot_lite.") for name in names if name.startswith("fewshot_lite")
        )


def _breaches(rooms: dict[str, list[str]], root: Path) -> set[tuple[str, str]]:
    """(module, room) for each room that a module imports and may not."""
    found = set()
    for path in root.glob("*/**/*.py"):
        module = path.relative_to(root)
        for name in _imports(path.read_text()):
            room = name.split(".")[0]
            if room not in ("__version__", module.parts[0], *rooms[module.parts[0]]):
                found.add((module.as_posix(), room))
    return found


def test_the_table_has_every_room_and_goes_down() -> None:
    rooms = _rooms()
    packages = {path.parent.name for path in _SOURCE.glob("*/__init__.py")}
    assert set(rooms) == packages
    order = list(rooms)
    for room, below in rooms.items():
        assert set(below) <= set(order[order.index(room) + 1 :]), room


def test_every_module_imports_what_its_room_may() -> None:
    assert _breaches(_rooms(), _SOURCE) == set()


@pytest.mark.parametrize(
    "line",
    [
        "import fewshot_lite.cli.app",
        "from fewshot_lite.cli import app",
        "from fewshot_lite import cli",
        "def f():\n    from fewshot_lite.cli.app import main",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import fewshot_lite.cli",
    ],
)
def test_an_import_upwards_is_found_wherever_it_stands(line: str, tmp_path: Path) -> None:
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "errors.py").write_text(line + "\n")
    assert _breaches(_rooms(), tmp_path) == {("core/errors.py", "cli")}
