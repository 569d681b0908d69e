"""`fewshot-lite demo`: parsing and rendering."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from fewshot_lite.cli.options import Base, Force, Json, option
from fewshot_lite.core.files import DEFAULT_BASE, find_base


def demo(
    output: Annotated[
        Path, option("The folder to create.", "--output", "-o", metavar="FOLDER")
    ] = Path("fewshot-lite-demo"),
    base: Base = DEFAULT_BASE,
    seed: Annotated[int, option("The seed of the drawings.", metavar="N")] = 0,
    force: Force = False,
    json: Json = False,
) -> None:
    """Draw a few kinds of things, adapt to some of the drawings and classify the others."""
    find_base(base)
    from fewshot_lite.cli.render import terminal as render
    from fewshot_lite.demo.run import run_demo

    with render.counting_bar("Loading the model") as progress:
        result = run_demo(output, base=base, seed=seed, force=force, on_done=progress)
    if json:
        render.print_json(asdict(result) | {"accuracy": result.accuracy})
    else:
        render.print_demo(result)
