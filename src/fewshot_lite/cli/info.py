"""`fewshot-lite info`: parsing and rendering."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fewshot_lite.cli.options import Json, argument


def info(
    file: Annotated[
        Path,
        argument(
            "A checkpoint, a personal model, an ONNX export or a training state.", metavar="FILE"
        ),
    ],
    json: Json = False,
) -> None:
    """Say what a file of fewshot-lite is, where it is from and what it scored."""
    from fewshot_lite.cli.render import terminal as render
    from fewshot_lite.personal.loading import describe

    meta = describe(file)
    if json:
        render.print_json(meta)
    else:
        render.print_info(meta, file, file.stat().st_size)
