"""`fewshot-lite adapt`: parsing and rendering."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fewshot_lite.cli_options import Device, Force, Json, MaxPixels
from fewshot_lite.data.folders import PHOTO_ENDINGS, require_folder
from fewshot_lite.errors import UsageError
from fewshot_lite.files import DEFAULT_BASE, DEFAULT_PERSONAL, check_output, find_base


def adapt(
    folder: Annotated[Path, typer.Argument(help="A folder with one folder of photos per class.")],
    base: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="The meta-trained model to adapt.")
    ] = DEFAULT_BASE,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Where the personal model goes.")
    ] = DEFAULT_PERSONAL,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail if `check` would find anything in the folder.")
    ] = False,
    max_pixels: MaxPixels = None,
    device: Device = "auto",
    force: Force = False,
    json: Json = False,
) -> None:
    """Learn the classes of a folder of photos, in one forward pass."""
    require_folder(folder)
    check_output(output, force=force)
    source = find_base(base)
    if output.exists() and source.exists() and output.samefile(source):
        raise UsageError(f"--output {output}: the same file as --base. Give another name.")
    if output.suffix.lower() in PHOTO_ENDINGS:
        raise UsageError(f"--output {output}: the name of a photo. End it in .safetensors.")
    from fewshot_lite import render
    from fewshot_lite.data.preflight import StrictError
    from fewshot_lite.devices import pick_device
    from fewshot_lite.meta_model import MetaModel
    from fewshot_lite.render_check import findings_json, print_findings

    model = MetaModel.load(base, device=str(pick_device(device)))
    try:
        with render.counting_bar("Reading photos") as progress:
            personal = model.adapt(folder, strict=strict, on_done=progress)
    except StrictError as error:
        if not json:
            print_findings(error.findings, render.err)
        raise
    personal.save(output, force=force)
    adaptation = personal.adaptation
    assert adaptation is not None
    if json:
        render.print_json(
            {
                "model": output,
                "classes": dict(zip(adaptation.class_names, adaptation.used, strict=True)),
                "skipped": [
                    {"path": item.path, "reason": item.reason} for item in adaptation.skipped
                ],
                "findings": findings_json(adaptation.findings),
                "seconds": adaptation.seconds,
                "base": personal.provenance["base"],
            }
        )
    else:
        others = [finding for finding in adaptation.findings if finding.kind != "skipped"]
        print_findings(others, render.err)
        where = () if output == DEFAULT_PERSONAL else ("--model", output)
        render.print_adaptation(
            adaptation, output, [render.command("classify", "photo.jpg", *where)]
        )
    if adaptation.skipped:
        raise typer.Exit(1)
