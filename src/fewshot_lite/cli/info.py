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

    if file.suffix.lower() == ".onnx":
        from fewshot_lite.personal.exported_model import ExportedModel

        meta = ExportedModel.load(file, flag="").about
    else:
        from fewshot_lite.core.tensor_files import read_meta

        meta = read_meta(file)
    if json:
        render.print_json(meta)
    else:
        render.print_info(meta, file, file.stat().st_size)
