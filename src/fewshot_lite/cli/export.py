"""`fewshot-lite export`: parsing and rendering."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from fewshot_lite.cli.options import Force, Json, argument, option
from fewshot_lite.core.errors import UsageError
from fewshot_lite.core.files import AN_EXPORT, DEFAULT_PERSONAL, EXPORTED, check_there
from fewshot_lite.core.text import some_of
from fewshot_lite.images.finding import find_labelled
from fewshot_lite.images.folders import require_folder
from fewshot_lite.personal.export.formats import ENDINGS, Format, check_export


def export(
    model: Annotated[
        Path, argument("The personal model that `adapt` wrote.", metavar="MODEL")
    ] = DEFAULT_PERSONAL,
    format: Annotated[
        Format,
        option(
            "The format: onnx for onnxruntime and others, torch-export for torch.export.load.",
            metavar="NAME",
        ),
    ] = "onnx",
    output: Annotated[
        Path | None,
        option(
            "The file to write.",
            "--output",
            "-o",
            metavar="FILE",
            shown="that of the model, ending in .onnx or .pt2",
        ),
    ] = None,
    int8: Annotated[
        Path | None,
        option(
            "Compute in eight bits, by the ranges that activations take on the photos of this "
            "folder, or ZIP archive, of class folders, e.g. the one that was adapted to: about "
            "twice as fast. The command tells how many answers change, and writes nothing if too "
            "many do.",
            metavar="FOLDER",
        ),
    ] = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Write a personal model as one file that runs elsewhere, without fewshot-lite.

    The export takes pixels and gives class probabilities and strangeness. It is kept only if it
    answers as the model does.

    From version 1.32 on onnxruntime reports its use over the network, unless
    ORT_DISABLE_TELEMETRY=1 is set before it is imported. This program sets it; set it in yours.
    """
    check_there(model, remedy="Give the personal model that `adapt` wrote.")
    if model.is_dir():
        raise UsageError(f"{model}: a folder. Give the personal model that `adapt` wrote.")
    if model.is_file() and model.suffix.lower() in EXPORTED:
        raise UsageError(f"{model}: {AN_EXPORT}")
    output = output or model.with_suffix(ENDINGS[format])
    check_export(output, format, source=model, int8=int8 is not None, force=force)
    if int8 is not None:
        if os.path.isfile(int8):
            find_labelled(int8)
        else:
            require_folder(int8)
    from fewshot_lite.cli.render import terminal as render
    from fewshot_lite.personal.export.writing import export_model

    with render.err.status("Exporting…"):
        result = export_model(model, output, format=format, int8=int8, force=force)
    if result.missing:
        none_of = f"no photos of {some_of(result.missing)}"
        render.print_note(f"--int8 {int8}: {none_of}, so eight bits were not tried on them.")
    if json:
        render.print_json(asdict(result))
        return
    size, parity = result.image_size, result.parity
    render.out.print(
        f"Exported to [bold]{render.escape(str(output))}[/] ({result.bytes / 1e6:.1f} MB): "
        f"pixels uint8 (batch, {size}, {size}, 3) to probabilities (batch, "
        f"{len(result.class_names)}) and strangeness (batch)"
    )
    answers = "it answers" if result.int8 is None else "it answered, before it was in eight bits,"
    render.out.print(
        f"On {parity.images} images {answers} as the model does: probabilities within "
        f"{parity.probability:.0e}, strangeness within {parity.strangeness:.0e} of it"
    )
    if (int8_result := result.int8) is not None:
        render.out.print(
            f"In eight bits {int8_result.changed} of {int8_result.photos} photos, each named by "
            f"others, get another answer: {int8_result.accuracy_in_eight_bits:.1%} right, "
            f"{int8_result.accuracy:.1%} before"
        )
    if format == "onnx":
        render.print_next("classify", "photo.jpg", "--model", output)
