"""`fewshot-lite check`: parsing and rendering."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from fewshot_lite.cli.options import Json, Labels, MaxPixels, PhotoFolder, option
from fewshot_lite.images.finding import find_labelled

#: Side of the shipped model's input images, in pixels.
_IMAGE_SIZE = 224


def check(
    folder: PhotoFolder,
    labels: Labels = None,
    image_size: Annotated[
        int,
        option(
            "The side in pixels of the images that your model sees; far smaller photos are "
            "reported as tiny.",
            min=16,
            max=1024,
            metavar="N",
        ),
    ] = _IMAGE_SIZE,
    strict: Annotated[
        bool, option("Exit with code 1 if anything at all was found.", "--strict")
    ] = False,
    max_pixels: MaxPixels = None,
    json: Json = False,
) -> None:
    """Look for what is wrong with a folder of photos, without learning or writing anything.

    It finds files that cannot be read, copies within a class and across classes, tiny photos,
    classes with one photo, and imbalance. The exit code is 1 if adapt would fail, and with
    --strict if anything was found.
    """
    scanned = find_labelled(folder, labels)
    from fewshot_lite.cli.render import terminal as render
    from fewshot_lite.cli.render.check import print_check
    from fewshot_lite.images.preflight import check as find_problems

    with render.counting_bar("Reading photos") as progress:
        findings = find_problems(
            scanned,
            image_size,
            on_done=progress,
            on_video=lambda done, total: progress(done, total, "Reading videos"),
        )
    if json:
        counts = {name: scanned.labels.count(k) for k, name in enumerate(scanned.class_names)}
        render.print_json(
            {
                "folder": folder,
                "image_size": image_size,
                "files": counts,
                "findings": [asdict(finding) for finding in findings],
            }
        )
    else:
        print_check(scanned, findings)
    empty = sum(finding.kind == "no-photo" for finding in findings)
    if len(scanned.class_names) - empty < 2 or (strict and findings):
        raise typer.Exit(1)
