"""`fewshot-lite adapt`: parsing and rendering."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer

from fewshot_lite.cli.options import (
    INTERRUPTED,
    Device,
    Force,
    Frames,
    Json,
    Labels,
    MaxPixels,
    PhotoFolder,
    Workers,
)
from fewshot_lite.core.config import HeadName, Refine
from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.files import DEFAULT_BASE, DEFAULT_PERSONAL, check_output
from fewshot_lite.images.finding import find_labelled
from fewshot_lite.images.folders import require_folder
from fewshot_lite.images.kinds import PHOTO_ENDINGS
from fewshot_lite.images.videos import check_frames
from fewshot_lite.personal.base_argument import parse_base
from fewshot_lite.personal.report.page import check_report

if TYPE_CHECKING:
    from fewshot_lite.personal.adaptation import Adaptation
    from fewshot_lite.personal.growth import Growth
    from fewshot_lite.personal.personal_model import PersonalModel
    from fewshot_lite.personal.quality import Quality
    from fewshot_lite.personal.torch_free_model import AdaptedModel


def adapt(
    folder: PhotoFolder,
    labels: Labels = None,
    base: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE",
            help="The meta-trained model to adapt. efficientnet_lite0, the name of one of "
            "torchvision's networks or timm:NAME takes that network as it was pre-trained.",
        ),
    ] = DEFAULT_BASE,
    weights: Annotated[
        Path | None,
        typer.Option(help="A file of weights for that network, instead of the published ones."),
    ] = None,
    head: Annotated[
        HeadName,
        typer.Option(
            metavar="NAME",
            help="The classifier on the features: default, auto (chosen by cross-validation), "
            f"{', '.join(get_args(HeadName)[2:])}.",
        ),
    ] = "default",
    views: Annotated[
        int | None,
        typer.Option(
            metavar="1|3",
            help="Views of each photo to adapt to: as it is, or mirrored and from nearer as well.",
            show_default="3, or 1 of 1000 photos and more",
        ),
    ] = None,
    mirror: Annotated[
        bool | None,
        typer.Option(
            "--mirror/--no-mirror",
            help="Take mirrored views or not. Unless given, they are left out where photos are "
            "then named better, as where left and right are classes.",
        ),
    ] = None,
    refine: Annotated[
        Refine,
        typer.Option(
            help="Whether to take gradient steps from the one-pass solution, which takes longer: "
            "auto takes them if photos left out are named better after them.",
        ),
    ] = "off",
    refine_pattern: Annotated[
        str | None,
        typer.Option(
            metavar="STAGES",
            help="The stages of the network that these steps move: names with commas between, "
            "e.g. 'features.16,features.17' or 'layer*'; or digits as lambda-search prints them.",
            show_default="what the base has stored, or the top ones",
        ),
    ] = None,
    frames: Frames = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The file to write the personal model to.")
    ] = DEFAULT_PERSONAL,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html",
            help="Also write an HTML page that shows doubtful photos, copies and which classes are "
            "confused.",
        ),
    ] = None,
    no_thumbnails: Annotated[
        bool,
        typer.Option(
            "--no-thumbnails", help="Do not keep small pictures of the photos in the model."
        ),
    ] = False,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Fail, and write nothing, if `check` would find anything."),
    ] = False,
    max_pixels: MaxPixels = None,
    workers: Workers = None,
    device: Device = "auto",
    force: Force = False,
    json: Json = False,
) -> None:
    """Learn the classes of a folder of photos, in one forward pass.

    It writes a personal model, and says what accuracy to expect, which classes are confused and
    what would help. Photos that cannot be read and classes without a photo are named and left out.
    """
    if refine == "off" and refine_pattern is not None:
        raise UsageError(f"--refine-pattern {refine_pattern}: goes with --refine auto|on.")
    if labels is not None or folder.is_file():
        find_labelled(folder, labels)  # what is wrong with it is told before torch is imported
    else:
        require_folder(folder)
    if frames is not None:
        check_frames(frames)
    _check_outputs(output, report, base, weights, force=force)
    from fewshot_lite.cli.render import terminal as render
    from fewshot_lite.cli.render.check import print_findings
    from fewshot_lite.core.stopping import StopRequest
    from fewshot_lite.images.preflight import StrictError
    from fewshot_lite.personal.growth import expected_growth
    from fewshot_lite.personal.loading import open_base
    from fewshot_lite.personal.quality import assess
    from fewshot_lite.personal.torch_free_base import TorchFreeBase

    plain = head == "default" and refine == "off" and report is None
    model = open_base(base, weights=weights, device=device, without_torch=plain)
    stop = StopRequest()
    try:
        with render.counting_bar("Adapting") as progress, ExitStack() as stack:

            def step(done: int, total: int) -> None:
                """Count; once refining has begun, Ctrl-C ends that alone."""
                if refine == "off":
                    progress(done, total)
                    return
                if not done:
                    stack.enter_context(stop)
                if stop:
                    raise FewshotError("interrupted.")
                progress(done, total, "Refining")

            given: dict[str, Any] = {
                "views": views,
                "mirror": mirror,
                "frames": frames,
                "strict": strict,
                "thumbnails": report is not None or not no_thumbnails,
                "workers": workers,
                "on_done": lambda done, total: progress(done, total, "Reading photos"),
                "on_video": lambda done, total: progress(done, total, "Reading videos"),
                "on_embedded": lambda done, total: _embedded(progress, done, total),
            }
            personal: AdaptedModel | PersonalModel
            if isinstance(model, TorchFreeBase):
                personal = model.adapt(folder, labels, **given)
            else:
                given |= {"head": head, "refine": refine, "refine_pattern": refine_pattern}
                personal = model.adapt(folder, labels, on_fold=step, **given)
            progress(0, None, "Leaving photos out")
            personal.save(output, force=force, thumbnails=not no_thumbnails)
            quality = assess(personal)
            growth = expected_growth(personal, quality)
            if report is not None:
                from fewshot_lite.personal.report.adapting import write_adapt_report

                write_adapt_report(
                    cast("PersonalModel", personal),
                    report,
                    model=output,
                    quality=quality,
                    force=force,
                )
    except StrictError as error:
        if not json:
            print_findings(error.findings, render.err)
        raise
    _show(personal, quality, growth, output, report, json=json)
    if stop:
        sys.exit(INTERRUPTED)


def _check_outputs(
    output: Path, report: Path | None, base: str, weights: Path | None, *, force: bool
) -> None:
    """Refuse to write where nothing can be written, or over what is read."""
    check_output(output, force=force, stream=True)
    sources = parse_base(base, weights).files
    if report is not None:
        taken = [("--output", output), *(("--base", source) for source in sources)]
        check_report(report, force=force, others=taken)
    for source in sources:
        if output.exists() and source.exists() and output.samefile(source):
            flag = "--weights" if source == weights else "--base"
            raise UsageError(f"--output {output}: the same file as {flag}. Give another name.")
    if output.suffix.lower() in PHOTO_ENDINGS:
        raise UsageError(f"--output {output}: the name of a photo. End it in .safetensors.")


def _show(
    personal: AdaptedModel | PersonalModel,
    quality: Quality,
    growth: Growth | None,
    output: Path,
    report: Path | None,
    *,
    json: bool,
) -> None:
    """Print what came of adapting."""
    from fewshot_lite.cli.render import terminal as render
    from fewshot_lite.cli.render.check import findings_json, print_findings
    from fewshot_lite.cli.render.quality import (
        print_head,
        print_quality,
        print_refined,
        quality_json,
    )
    from fewshot_lite.images.bit_depths import in_words
    from fewshot_lite.personal.quality import advice

    adaptation = personal.adaptation
    assert adaptation is not None
    if note := in_words(adaptation.whites):
        render.print_note(note)
    refined = personal.provenance.get("refined")
    if json:
        render.print_skipped(adaptation.skipped)  # stdout is JSON alone
        render.print_json(
            {
                "model": output,
                **({"report": report} if report is not None else {}),
                "classes": dict(zip(adaptation.class_names, adaptation.used, strict=True)),
                **({"clips": _clips(adaptation)} if any(adaptation.clips) else {}),
                "skipped": [
                    {"path": item.path, "reason": item.reason} for item in adaptation.skipped
                ],
                "findings": findings_json(adaptation.findings),
                "quality": quality_json(quality),
                "growth": asdict(growth) if growth else None,
                "advice": advice(quality, personal.examples),
                "seconds": adaptation.seconds,
                "base": personal.provenance["base"],
                "head": personal.provenance["head"],
                **({"refined": refined} if refined else {}),
            }
        )
    else:
        others = [
            finding
            for finding in adaptation.findings
            if finding.kind not in ("skipped", "no-photo")
        ]
        print_findings(others, render.err)
        where = () if output == DEFAULT_PERSONAL else ("--model", output)
        render.print_adaptation(adaptation, output)
        print_quality(quality, personal.examples, growth=growth)
        print_head(personal.provenance["head"])
        if refined:
            print_refined(refined)
        if report is not None:
            render.out.print(f"Report: [bold]{render.escape(str(report))}[/]")
        render.print_next([render.command("classify", "photo.jpg", *where)])


def _embedded(progress: Callable[..., None], done: int, total: int) -> None:
    """Photos have gone through the network; when all have, the head is fitted to them."""
    progress(done, total, "Embedding")
    if done == total:
        progress(0, None, "Fitting")


def _clips(adaptation: Adaptation) -> dict[str, int]:
    """Clips of each class that has any."""
    pairs = zip(adaptation.class_names, adaptation.clips, strict=True)
    return {name: number for name, number in pairs if number}
