"""`fewshot-lite adapt`: parsing and rendering."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

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
    option,
)
from fewshot_lite.core.config import HeadName, Refine
from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.files import DEFAULT_BASE, DEFAULT_PERSONAL, check_output
from fewshot_lite.images.finding import find_labelled
from fewshot_lite.images.folders import require_folder
from fewshot_lite.images.kinds import check_model_name
from fewshot_lite.images.videos import FRAMES, check_frames
from fewshot_lite.personal.base_argument import parse_base
from fewshot_lite.personal.report.page import check_report

if TYPE_CHECKING:
    from fewshot_lite.personal.growth import Growth
    from fewshot_lite.personal.quality import Quality
    from fewshot_lite.personal.support import Support
    from fewshot_lite.personal.with_photos import WithPhotos


def adapt(
    folder: PhotoFolder,
    labels: Labels = None,
    base: Annotated[
        str,
        option(
            "The meta-trained model to adapt. efficientnet_lite0, the name of one of "
            "torchvision's networks or timm:NAME takes that network as it was pre-trained.",
            metavar="NAME|FILE",
        ),
    ] = DEFAULT_BASE,
    weights: Annotated[
        Path | None,
        option(
            "A file of weights for that network, instead of the published ones.", metavar="FILE"
        ),
    ] = None,
    head: Annotated[
        HeadName,
        option(
            "The classifier on the features: default, auto (chosen by cross-validation), "
            f"{', '.join(get_args(HeadName)[2:])}.",
            metavar="NAME",
        ),
    ] = "default",
    views: Annotated[
        int | None,
        option(
            "Views of each photo to adapt to: as it is, or mirrored and from nearer as well.",
            metavar="1|3",
            shown="3, or 1 of 1000 photos and more",
        ),
    ] = None,
    mirror: Annotated[
        bool | None,
        option(
            "Take mirrored views or not. Unless given, they are left out where photos are "
            "then named better, as where left and right are classes.",
            "--mirror/--no-mirror",
        ),
    ] = None,
    refine: Annotated[
        Refine,
        option(
            "Whether to take gradient steps from the one-pass solution, which takes longer: "
            "auto takes them if photos left out are named better after them.",
            metavar="off|auto|on",
        ),
    ] = "off",
    refine_pattern: Annotated[
        str | None,
        option(
            "The stages of the network whose weights these steps move: names with commas between, "
            "e.g. features.16 or 'layer*'; or digits as lambda-search prints them; or film: the "
            "FiLM parameters alone, of the upper half of the stages.",
            metavar="STAGES",
            shown="what the base has stored, or film",
        ),
    ] = None,
    frames: Frames = None,
    output: Annotated[
        Path, option("The file to write the personal model to.", "--output", "-o", metavar="FILE")
    ] = DEFAULT_PERSONAL,
    report: Annotated[
        Path | None,
        option(
            "Also write an HTML page that shows doubtful photos, copies and which classes are "
            "confused.",
            metavar="FILE.html",
        ),
    ] = None,
    no_thumbnails: Annotated[
        bool, option("Do not keep small pictures of the photos in the model.", "--no-thumbnails")
    ] = False,
    strict: Annotated[
        bool, option("Fail, and write nothing, if `check` would find anything.", "--strict")
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
    if labels is not None or os.path.isfile(folder):
        find_labelled(folder, labels)  # what is wrong with it is told before torch is imported
    else:
        require_folder(folder)
    check_frames(FRAMES if frames is None else frames)
    _check_outputs(output, report, base, weights, labels, force=force)
    from fewshot_lite.cli.render import terminal as render
    from fewshot_lite.cli.render.check import print_findings
    from fewshot_lite.core.stopping import StopRequest
    from fewshot_lite.images.preflight import StrictError
    from fewshot_lite.personal.growth import expected_growth
    from fewshot_lite.personal.loading import open_base
    from fewshot_lite.personal.quality import assess
    from fewshot_lite.personal.torch_free_base import TorchFreeBase

    model = open_base(base, weights=weights, device=device, without_torch=refine == "off")
    given: dict[str, Any] = {
        "head": head,
        "views": views,
        "mirror": mirror,
        "frames": frames,
        "strict": strict,
        "thumbnails": report is not None or not no_thumbnails,
        "workers": workers,
    }
    stop = StopRequest()
    try:
        with render.counting_bar("Adapting") as progress, ExitStack() as stack:

            def step(done: int, total: int) -> None:
                """Count; once refining has begun, Ctrl-C ends that alone."""
                if refine != "off" and not done:
                    stack.enter_context(stop)
                if stop:
                    raise FewshotError("interrupted.")
                progress(done, total, "Adapting" if refine == "off" else "Refining")

            if not isinstance(model, TorchFreeBase):
                given |= {"refine": refine, "refine_pattern": refine_pattern, "on_fold": step}
            given |= _counters(progress)
            personal: WithPhotos = model.adapt(folder, labels, **given)
            progress(0, None, "Leaving photos out")
            personal.save(output, force=force, thumbnails=not no_thumbnails)
            quality = assess(personal)
            growth = expected_growth(personal, quality)
            if report is not None:
                from fewshot_lite.personal.report.adapting import write_adapt_report

                write_adapt_report(personal, report, model=output, quality=quality, force=force)
    except StrictError as error:
        if not json:
            print_findings(error.findings, render.err)
        raise
    _show(personal, quality, growth, output, report, json=json)
    if stop:
        sys.exit(INTERRUPTED)


def _check_outputs(
    output: Path,
    report: Path | None,
    base: str,
    weights: Path | None,
    labels: Path | None,
    *,
    force: bool,
) -> None:
    """Refuse to write where nothing can be written, or over what is read."""
    check_model_name(output)
    check_output(output, force=force, stream=True)
    files = parse_base(base, weights).files
    sources = [("--weights" if file == weights else "--base", file) for file in files]
    if labels is not None:
        sources.append(("--labels", labels))
    if report is not None:
        check_report(report, force=force, others=[("--output", output), *sources])
    for flag, source in sources:
        if output.exists() and source.exists() and output.samefile(source):
            raise UsageError(f"--output {output}: the same file as {flag}. Give another name.")


def _show(
    personal: WithPhotos,
    quality: Quality,
    growth: Growth | None,
    output: Path,
    report: Path | None,
    *,
    json: bool,
) -> None:
    """Print what came of adapting."""
    from fewshot_lite.cli.render import terminal as render
    from fewshot_lite.cli.render.check import print_findings
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
                "report": report,
                "classes": dict(zip(adaptation.class_names, adaptation.used, strict=True)),
                "clips": _clips(adaptation),
                "skipped": [asdict(item) for item in adaptation.skipped],
                "findings": [asdict(finding) for finding in adaptation.findings],
                "quality": quality_json(quality),
                "growth": asdict(growth) if growth else None,
                "advice": advice(quality, personal.examples),
                "seconds": adaptation.seconds,
                "base": personal.provenance["base"],
                "head": personal.provenance["head"],
                "refined": refined,
            }
        )
    else:
        told = ("skipped", "no-photo")
        print_findings([item for item in adaptation.findings if item.kind not in told], render.err)
        render.print_adaptation(adaptation, output)
        print_quality(quality, personal.examples, growth=growth)
        print_head(personal.provenance["head"])
        if refined:
            print_refined(refined)
        if report is not None:
            render.out.print(f"Report: [bold]{render.escape(str(report))}[/]")
        render.print_next("classify", "photo.jpg", *render.model_flag(output))


def _counters(progress: Callable[..., None]) -> dict[str, Any]:
    """What `adapt` tells how far it is."""

    def embedded(done: int, total: int) -> None:
        progress(done, total, "Embedding")
        if done == total:  # the head is fitted to them
            progress(0, None, "Fitting")

    return {
        "on_done": lambda done, total: progress(done, total, "Reading photos"),
        "on_video": lambda done, total: progress(done, total, "Reading videos"),
        "on_embedded": embedded,
    }


def _clips(adaptation: Support) -> dict[str, int]:
    """Clips of each class that has any."""
    pairs = zip(adaptation.class_names, adaptation.clips, strict=True)
    return {name: number for name, number in pairs if number}
