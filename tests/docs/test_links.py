"""Links of the README and of model cards lead somewhere; `mkdocs build --strict` checks others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from documents import ROOT, name_of

_FILES = (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "models").glob("*.md")))


def anchors(page: Path) -> set[str]:
    """The anchors of a Markdown page's headings."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", _FILES, ids=name_of)
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith(("https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), target


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
