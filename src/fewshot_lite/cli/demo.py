"""`fewshot-lite demo`: parsing and rendering."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fewshot_lite.cli.options import Force, Json
from fewshot_lite.core.files import DEFAULT_BASE, find_base


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to create.")] = Path(
        "fewshot-lite-demo"
    ),
    base: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="The meta-trained model to adapt.")
    ] = DEFAULT_BASE,
    seed: Annotated[int, typer.Option(help="The seed of the drawings.")] = 0,
    force: Force = False,
    json: Json = False,
) -> None:
    """Draw a few kinds of things, adapt to some of the drawings and classify the others."""
    find_base(base)
    from fewshot_lite.cli.render import terminal as render
    from fewshot_lite.demo.run import run_demo

    with render.err.status("") as status:
        result = run_demo(
            output,
            base=base,
            seed=seed,
            force=force,
            on_phase=lambda phase: status.update(f"{phase}…"),
        )
    if json:
        render.print_json(asdict(result) | {"accuracy": result.accuracy})
    else:
        render.print_demo(result)
