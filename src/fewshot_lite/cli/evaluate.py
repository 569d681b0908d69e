"""The command that compares models: `evaluate`. Registered in `cli`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fewshot_lite.cli.options import INTERRUPTED, Device, Force, Json, Precision
from fewshot_lite.core.errors import UsageError
from fewshot_lite.core.figures import check_figure, require_matplotlib
from fewshot_lite.core.files import DEFAULT_BASE, check_output
from fewshot_lite.evaluation.names import check_pattern, parse_models
from fewshot_lite.evaluation.protocols.options import (
    QUERIES,
    SHOTS,
    WAYS,
    OrbitYear,
    ProtocolKind,
    ProtocolOptions,
    Span,
    Split,
    check_pair,
    parse_spans,
)
from fewshot_lite.images.folders import require_folder

if TYPE_CHECKING:
    from fewshot_lite.core.progress import Report
    from fewshot_lite.core.ranks import Ranks
    from fewshot_lite.evaluation.caches import ImageCache
    from fewshot_lite.evaluation.protocols.base import EvaluationProtocol
    from fewshot_lite.evaluation.session import OpenData, Outcome
    from fewshot_lite.images.photo import Source

_OPTIONS = ProtocolOptions()


def _shown(spans: tuple[Span, ...]) -> str:
    return ",".join(map(str, spans))


def evaluate(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL... DATA",
            help="Models: default, a checkpoint, or cosine, euclidean, mahalanobis, linear, knn, "
            "finetune-head, finetune-film, finetune, also as NAME:BACKBONE. Data: class folders, a "
            "folder of such data sets, or a benchmark's folder; left out with --support and "
            "--query.",
            show_default=False,
        ),
    ],
    ways: Annotated[
        str | None,
        typer.Option(
            metavar="N|N,N|N-N",
            help="Of class folders: classes of a task.",
            show_default=_shown(WAYS),
        ),
    ] = None,
    shots: Annotated[
        str | None,
        typer.Option(
            metavar="N|N,N|N-N",
            help="Of class folders: support images of a class; a range is drawn from.",
            show_default=_shown(SHOTS),
        ),
    ] = None,
    queries: Annotated[
        int | None,
        typer.Option(help="Of class folders: query images of a class.", show_default=str(QUERIES)),
    ] = None,
    tracks: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A data set with files TRACK_FRAME; can be repeated."),
    ] = None,
    tasks: Annotated[
        int | None,
        typer.Option(
            help="Of each data set, way and shots.", show_default="600, ORBIT as published"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the tasks.")] = _OPTIONS.seed,
    protocol: Annotated[
        ProtocolKind, typer.Option(help="How tasks are drawn; auto goes by the data's format.")
    ] = "auto",
    support: Annotated[
        Path | None, typer.Option(help="Class folders to adapt to, in place of DATA.")
    ] = None,
    query: Annotated[
        Path | None, typer.Option(help="The same classes, other photos: to classify.")
    ] = None,
    split: Annotated[
        Split | None, typer.Option(help="Of Meta-Dataset and ORBIT.", show_default="test")
    ] = None,
    orbit: Annotated[
        OrbitYear | None,
        typer.Option(help="Version of ORBIT's protocol.", show_default="2022"),
    ] = None,
    all_frames: Annotated[
        bool,
        typer.Option(
            "--all-frames", help="Of ORBIT: query frames without the object too; no annotations."
        ),
    ] = False,
    baseline_backbone: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="Of baselines that name none.")
    ] = DEFAULT_BASE,
    finetune_steps: Annotated[int, typer.Option(help="Steps of finetune and finetune-*.")] = 50,
    finetune_lr: Annotated[float, typer.Option(help="Their learning rate (Adam).")] = 1e-3,
    pattern: Annotated[
        str | None,
        typer.Option(
            metavar="DIGITS",
            help="Of finetune and finetune-film: which layers are updated, from the images up, the "
            "head last, e.g. 000011 of resnet18.",
            show_default="all",
        ),
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Pixels.", show_default="each model's own")
    ] = None,
    micro_batch: Annotated[int, typer.Option(help="Images in a pass.")] = 64,
    precision: Precision = "auto",
    device: Device = "auto",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="A .jsonl file of each task's scores; the same command goes on."
        ),
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Write the figures to this file.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw them to this file (.png, .svg, .pdf).")
    ] = None,
    submission: Annotated[
        Path | None,
        typer.Option(
            help="Of ORBIT: write the first model's predictions as its server takes them."
        ),
    ] = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Compare models on exactly the same tasks: accuracy, intervals, cost."""
    pair = check_pair(support, query)
    if pair and Path(words[-1]).is_dir():
        raise UsageError(f"DATA {words[-1]}: --support and --query take its place. Leave it out.")
    if not words[-1]:
        raise UsageError("DATA is an empty word. Give the folder of the data, or . for this one.")
    models, data = (words, None) if pair else (words[:-1], Path(words[-1]))
    names = parse_models(models, baseline_backbone)
    check_pattern(pattern, names)
    options = ProtocolOptions(
        ways=None if ways is None else parse_spans("--ways", ways, least=2),
        shots=None if shots is None else parse_spans("--shots", shots, least=1),
        queries=queries,
        tracks=tuple(tracks or ()),
        tasks=tasks,
        seed=seed,
        split=split,
        orbit=orbit,
        all_frames=all_frames,
    )
    options.check()
    _check_numbers(finetune_steps, finetune_lr, image_size, micro_batch)
    for folder in (data, support, query):
        if folder is not None:
            require_folder(folder)
    if output is not None:
        _check_file("--output", output, force=force, goes_on=True)
    for flag, path in (("--csv", csv), ("--plot", plot), ("--submission", submission)):
        if path is not None:
            _check_file(flag, path, force=force)
    _check_apart(
        {"--output": output, "--csv": csv, "--plot": plot, "--submission": submission},
        [name.base for name in names],
    )
    if plot is not None:
        check_figure(plot)

    from fewshot_lite.cli.render import evaluate as render_evaluate
    from fewshot_lite.cli.render import terminal as render
    from fewshot_lite.core.progress import Progress
    from fewshot_lite.core.ranks import join
    from fewshot_lite.core.stopping import StopRequest
    from fewshot_lite.evaluation.finetuning import FineTuning
    from fewshot_lite.evaluation.orbit import write_submission
    from fewshot_lite.evaluation.plots import write_plot
    from fewshot_lite.evaluation.session import Session, compare_models
    from fewshot_lite.evaluation.tables import write_csv

    if plot is not None:
        require_matplotlib()
    tuning = FineTuning(finetune_steps, finetune_lr, pattern)
    session = Session(device, precision, image_size, micro_batch, tuning)
    with join() as ranks, StopRequest() as stop, _bars(ranks) as report:
        outcome = compare_models(
            names,
            _opener(data, support, query, options, protocol, submission, report),
            session,
            log=output,
            force=force,
            on_done=lambda done, total: report(Progress(done, total, "Evaluating")),
            stop=lambda: bool(stop),
            ranks=ranks,
        )
    comparison = outcome.comparison
    if not ranks.first:  # which shows and writes what all found
        sys.exit(_exit_code(outcome))
    render.print_skipped(outcome.skipped)  # why the exit code is 1, also beside JSON
    if json:
        skipped = [{"path": item.path, "reason": item.reason} for item in outcome.skipped]
        videos = {name: {m: asdict(f) for m, f in by.items()} for name, by in outcome.orbit.items()}
        render.print_json(
            {
                **comparison.to_json(),
                **({"orbit": videos} if videos else {}),
                "skipped": skipped,
            }
        )
    else:
        render_evaluate.print_comparison(comparison)
        render_evaluate.print_orbit(outcome.orbit)
    if not comparison.finished:
        _say_how_to_go_on(output)
        if csv or plot or submission:
            render.err.print("Files of figures are written once all tasks are done.")
        sys.exit(_exit_code(outcome))  # not typer.Exit: what there is to say has been said
    # Last: the figures of a long run have been shown, whatever becomes of these files.
    if csv is not None:
        write_csv(comparison, csv)
    if plot is not None:
        write_plot(comparison, plot)
    if submission is not None:
        for problem in write_submission(
            outcome.protocol, outcome.records, names[0].text, submission, force=force
        ):
            render.err.print(f"[yellow]Note[/] {render.escape(problem)}")
    if outcome.skipped:
        raise typer.Exit(_exit_code(outcome))


def _exit_code(outcome: Outcome) -> int:
    if not outcome.comparison.finished:
        return INTERRUPTED
    return 1 if outcome.skipped else 0


def _bars(ranks: Ranks) -> AbstractContextManager[Report]:
    """Progress, of the first process alone."""
    from fewshot_lite.cli.render import terminal as render

    return render.training_bars() if ranks.first else nullcontext(lambda progress: None)


def _opener(
    data: Path | None,
    support: Path | None,
    query: Path | None,
    options: ProtocolOptions,
    kind: ProtocolKind,
    submission: Path | None,
    report: Report,
) -> OpenData:
    """What opens the data once models are there: photos are read at the size they need."""
    from fewshot_lite.core.progress import Progress
    from fewshot_lite.evaluation.orbit import require_orbit
    from fewshot_lite.evaluation.protocols.registry import open_pair, open_protocol

    def open_data(images: ImageCache, size: int) -> EvaluationProtocol:
        def find_unreadable(sources: Sequence[Source]) -> Mapping[Source, str]:
            return images.problems(
                sources,
                size,
                lambda done, total: report(Progress(done, total, "Reading photos")),
            )

        if support is not None and query is not None:
            return open_pair(support, query, options, find_unreadable=find_unreadable)
        assert data is not None
        opened = open_protocol(data, options, kind=kind, find_unreadable=find_unreadable)
        if submission is not None:
            require_orbit(opened, submission)
        return opened

    return open_data


def _check_numbers(steps: int, lr: float, image_size: int | None, micro_batch: int) -> None:
    if steps < 1:
        raise UsageError(f"--finetune-steps {steps}: must be at least 1.")
    if not 0 < lr < 1e3:
        raise UsageError(f"--finetune-lr {lr}: must be above 0.")
    if image_size is not None and not 16 <= image_size <= 1024:
        raise UsageError(f"--image-size {image_size}: must be between 16 and 1024.")
    if micro_batch < 1:
        raise UsageError(f"--micro-batch {micro_batch}: must be at least 1.")


def _check_file(flag: str, path: Path, *, force: bool, goes_on: bool = False) -> None:
    try:
        check_output(path, force=force or goes_on)
    except UsageError as error:
        raise UsageError(str(error).replace("--output", flag, 1)) from None


def _check_apart(outputs: Mapping[str, Path | None], models: Sequence[str]) -> None:
    """Refuse two outputs in one file, and one in place of a model."""
    taken = {Path(model).resolve(): model for model in models}
    for flag, path in outputs.items():
        if path is None:
            continue
        if path.resolve() in taken:
            other = taken[path.resolve()]
            raise UsageError(f"{flag} {path}: the same file as {other}. Give another name.")
        taken[path.resolve()] = flag


def _say_how_to_go_on(output: Path | None) -> None:
    from fewshot_lite.cli.render import terminal as render

    if output is None:
        render.err.print("Interrupted: figures are of the tasks done. With --output it can go on.")
    else:
        render.err.print(
            f"Interrupted: figures are of the tasks done. The same command goes on from "
            f"{render.escape(str(output))}."
        )
