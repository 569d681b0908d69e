"""`fewshot-lite lambda-search`: which layers need no update in adaptation."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fewshot_lite.cli.options import INTERRUPTED, Device, Force, Json, argument, option
from fewshot_lite.cli.settings import with_settings
from fewshot_lite.core.errors import UsageError
from fewshot_lite.core.figures import check_figure, require_matplotlib
from fewshot_lite.core.files import check_output
from fewshot_lite.evaluation.lambda_search.options import SearchOptions, parse_searched
from fewshot_lite.evaluation.names import REFINE, ModelName
from fewshot_lite.images.folders import require_folder
from fewshot_lite.images.kinds import check_model_name

if TYPE_CHECKING:
    from fewshot_lite.evaluation.lambda_search.result import Search


@with_settings(SearchOptions)
def lambda_search(
    config: SearchOptions,
    model: Annotated[
        str,
        argument(
            "A checkpoint of maml, fomaml or imaml; refine:MODEL, for adapt --refine; or "
            "finetune:MODEL or finetune-film:MODEL, of which nothing is stored.",
            metavar="MODEL",
            shown=False,
        ),
    ],
    data: Annotated[
        list[Path],
        argument(
            "Class folders to draw tasks from, other ones than those trained on; or several such "
            "data sets.",
            metavar="DATA...",
        ),
    ],
    output: Annotated[
        Path | None,
        option(
            "Store the pattern in this checkpoint: a new file, or with --force MODEL itself.",
            "--output",
            "-o",
            metavar="FILE",
        ),
    ] = None,
    plot: Annotated[
        Path | None, option("Draw the figures to this file (.png, .svg, .pdf).", metavar="FILE")
    ] = None,
    device: Device = "auto",
    force: Force = False,
    json: Json = False,
) -> None:
    """Find which layers need no update in adaptation: faster, with little accuracy lost."""
    name = parse_searched(model)
    config.check()
    for folder in data:
        require_folder(folder)
    _check_files(name, data, output, plot, force=force)

    from fewshot_lite.cli.render import terminal as render
    from fewshot_lite.core.progress import Progress
    from fewshot_lite.core.stopping import StopRequest
    from fewshot_lite.evaluation.lambda_search.result import write_plot
    from fewshot_lite.evaluation.lambda_search.search import search_patterns

    with StopRequest() as stop, render.training_bars() as report:
        search = search_patterns(
            model,
            data,
            config,
            device=device,
            on_done=lambda turn, done, total: report(
                Progress(done, total, "Measuring" if turn == 1 else f"Round {turn}")
            ),
            stop=lambda: bool(stop),
        )
    _store_and_show(search, output, json=json, storable=_storable(name))
    if not search.finished:
        sys.exit(INTERRUPTED)
    if plot is not None:
        write_plot(search, plot)
    if search.unreadable:
        raise typer.Exit(1)


def _storable(name: ModelName) -> bool:
    """Return whether the model has a checkpoint that can hold a pattern."""
    return name.baseline in (None, REFINE)


def _check_files(
    name: ModelName,
    data: Sequence[Path],
    output: Path | None,
    plot: Path | None,
    *,
    force: bool,
) -> None:
    """Refuse output files that cannot be written."""
    if output is not None and not _storable(name):
        raise UsageError(
            f"--output {output}: {name.text} has no pattern to store. Leave it out, and give "
            f"`evaluate {name.text} DATA` the --pattern."
        )
    if output is not None:
        check_model_name(output)
    for flag, path in (("--output", output), ("--plot", plot)):
        if path is not None:
            check_output(path, force=force, flag=flag)
    if plot is not None:
        check_figure(plot, data=data)
        if plot.resolve() in {Path(name.base).resolve(), output.resolve() if output else None}:
            raise UsageError(f"--plot {plot}: a model's file. Give another name.")
        require_matplotlib()


def _store_and_show(search: Search, output: Path | None, *, json: bool, storable: bool) -> None:
    from fewshot_lite.cli.render import lambda_search as render_lambda
    from fewshot_lite.cli.render import terminal as render
    from fewshot_lite.evaluation.lambda_search.result import store
    from fewshot_lite.images.folders import Skipped

    stored = output if search.finished else None
    if stored is not None:
        store(search, stored)
    skipped = [Skipped(path, why) for path, why in search.unreadable.items()]
    if json:
        listed = [asdict(item) for item in skipped]
        render.print_json({**search.to_json(), "output": stored, "skipped": listed})
    else:
        render.print_skipped(skipped)
        render_lambda.print_search(search, stored, storable)
    if not search.finished:
        done = len(search.full.accuracies)
        render.err.print(
            f"Interrupted after {done} task{'s' if done > 1 else ''}; nothing was written."
        )
