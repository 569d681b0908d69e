"""All 18 tasks, written once."""

from __future__ import annotations

from pathlib import Path

import pytest

from vtab_files import Name, write_all


@pytest.fixture(scope="session")
def vtab(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Name]]:
    """The root of all tasks, and how to tell the class of an image. Not to be written to."""
    root = tmp_path_factory.mktemp("vtab")
    return root, write_all(root)
