"""Which head a personal model got, and whether it was refined, in words."""

from __future__ import annotations

from typing import Any

from fewshot_lite.cli.render import terminal as render
from fewshot_lite.core.text import visible


def print_head(record: dict[str, Any]) -> None:
    """Say what `--head auto` came to; nothing for a head that was named."""
    if record["asked"] != "auto":
        return
    used, found = record["used"], record.get("left_out_accuracy")
    if found is None:
        render.out.print(f"Head: {used}, the default: {record['note']}.")
        return
    shares = ", ".join(f"{name} {share:.0%}" for name, share in found.items())
    render.out.print(f"Head: {used} (photos left out that are named right: {shares}).")


def print_refined(record: dict[str, Any]) -> None:
    """Say what `--refine` came to, with the share of photos left out that are named right."""
    steps, shares = record["steps"], record.get("left_out_accuracy")
    if "note" in record:
        render.out.print(f"Not refined: {visible(record['note'])} The one-pass model was kept.")
    elif not shares:
        done = f"Refined by {steps} steps" if steps else "Not refined"
        render.out.print(f"{done}: with one photo of each class, none can be left out to tell.")
    elif steps:
        after, before = shares[str(steps)], shares["0"]
        render.out.print(
            f"Refined by {steps} gradient steps: of photos left out, {after:.0%} are named right "
            f"({before:.0%} in one pass)."
        )
    else:
        best = max(float(share) for number, share in shares.items() if number != "0")
        render.out.print(
            f"Not refined: of photos left out, one pass names {shares['0']:.0%} right, and after "
            f"gradient steps it is {best:.0%} at best."
        )
