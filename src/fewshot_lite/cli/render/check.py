"""The output of `check`, and the findings that `adapt` prints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from fewshot_lite.cli.render import terminal as render
from fewshot_lite.images.folders import LabelledImages
from fewshot_lite.images.preflight import SERIOUS, Finding, Kind

#: The most findings of a kind, and the most files of a finding, that are listed.
_MOST, _MOST_FILES = 50, 6

_TITLES: dict[Kind, str] = {
    "skipped": "Skipped",
    "no-photo": "No photo",
    "one-class": "One class",
    "two-labels": "Two labels",
    "same-file": "Same file",
    "near-copy": "Near copy",
    "tiny": "Tiny",
    "one-photo": "One photo",
    "level": "Level",
    "imbalance": "Imbalance",
    "bit-depth": "Bit depth",
}


def print_findings(findings: Sequence[Finding], to: Console) -> None:
    """Print a line for each finding, at most `_MOST` of a kind."""
    for kind, title in _TITLES.items():
        of_kind = [finding for finding in findings if finding.kind == kind]
        style = "bold red" if kind in SERIOUS or kind == "two-labels" else "yellow"
        for finding in of_kind[:_MOST]:
            detail = render.escape(finding.detail)
            to.print(f"[{style}]{title}[/] {_names(finding.paths)}: {detail}")
        if len(of_kind) > _MOST:
            to.print(f"[{style}]{title}[/] {len(of_kind) - _MOST} more (--json lists all)")


def print_check(folder: LabelledImages, findings: Sequence[Finding]) -> None:
    """Print the findings and their numbers."""
    print_findings(findings, render.out)
    counts = {kind: sum(finding.kind == kind for finding in findings) for kind in _TITLES}
    totals = ", ".join(f"{_TITLES[kind].lower()} {n}" for kind, n in counts.items() if n)
    root = render.escape(str(folder.root))
    classes = len(folder.class_names)
    render.out.print(
        f"{len(folder.paths):,} photos of {classes:,} class{'es' if classes > 1 else ''} in "
        f"[bold]{root}[/]: {totals or 'nothing found that is wrong'}."
    )


def _names(paths: Sequence[Path]) -> str:
    shown = ", ".join(render.escape(str(path)) for path in paths[:_MOST_FILES])
    more = len(paths) - _MOST_FILES
    return f"{shown} and {more} more" if more > 0 else shown
