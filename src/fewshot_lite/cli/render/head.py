"""Which head a personal model got, in words."""

from __future__ import annotations

from typing import Any

from fewshot_lite.cli.render import terminal as render


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
