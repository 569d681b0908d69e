"""`fewshot-lite evaluate`: compare models on the same tasks."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fewshot_lite.cli.options import INTERRUPTED, Device, Force, Json, Precision, argument, option
from fewshot_lite.cli.settings import with_settings
from fewshot_lite.core.config import COUNT, IMAGE_SIZE, Limits, check_number
from fewshot_lite.core.errors import UsageError
from fewshot_lite.core.figures import check_figure, require_matplotlib
from fewshot_lite.core.files import DEFAULT_BASE, check_output
from fewshot_lite.evaluation.names import BASELINES, check_pattern, is_known, parse_models
from fewshot_lite.evaluation.protocols.options import (
    TASKS,
    ProtocolKind,
    ProtocolOptions,
    check_pair,
)
from fewshot_lite.images.folders import require_folder
from fewshot_lite.images.kinds import check_table_name

if TYPE_CHECKING:
    from fewshot_lite.evaluation.protocols.base import EvaluationProtocol
    from fewshot_lite.evaluation.session import Outcome

#: Headings of the help text.
_MODELS, _OUTPUT = "Models", "Output"


@with_settings(ProtocolOptions)
def evaluate(
    config: ProtocolOptions,
    words: Annotated[
        list[str],
        argument(
            "Models: default, a checkpoint, refine:default or refine:FILE (adapt --refine on), or "
            f"a baseline ({', '.join(BASELINES)}), also as NAME:BACKBONE. Data: class folders, a "
            "folder of such data sets, several of either, or the folder of Meta-Dataset, VTAB-v2 "
            "or ORBIT; leave it out with --support and --query.",
            metavar="MODEL... DATA...",
            shown=False,
        ),
    ],
    protocol: Annotated[
        ProtocolKind,
        option(
            "The protocol: folder, meta-dataset, vtab or orbit; auto goes by the data.",
            panel=TASKS,
            metavar="NAME",
        ),
    ] = "auto",
    support: Annotated[
        Path | None,
        option("Class folders to adapt to, in place of DATA.", panel=TASKS, metavar="FOLDER"),
    ] = None,
    query: Annotated[
        Path | None,
        option(
            "Class folders to classify: the same classes, other photos.",
            panel=TASKS,
            metavar="FOLDER",
        ),
    ] = None,
    baseline_backbone: Annotated[
        str, option("The backbone of baselines that name none.", panel=_MODELS, metavar="NAME|FILE")
    ] = DEFAULT_BASE,
    finetune_steps: Annotated[
        int, option("Steps of finetune and finetune-*.", panel=_MODELS, metavar="N")
    ] = 50,
    finetune_lr: Annotated[
        float,
        option("Learning rate of finetune and finetune-* (Adam).", panel=_MODELS, metavar="X"),
    ] = 1e-3,
    pattern: Annotated[
        str | None,
        option(
            "Layers that finetune and finetune-film update, from the images up, the head "
            "last, e.g. 000011 for resnet18.",
            panel=_MODELS,
            metavar="DIGITS",
            shown="all",
        ),
    ] = None,
    image_size: Annotated[
        int | None,
        option(
            "Side of the images in pixels.", panel=_MODELS, metavar="N", shown="each model's own"
        ),
    ] = None,
    micro_batch: Annotated[
        int, option("Images in one pass of a network.", panel=_MODELS, metavar="N")
    ] = 64,
    precision: Precision = "auto",
    device: Device = "auto",
    output: Annotated[
        Path | None,
        option(
            "A .jsonl file for the scores of each task; the same command goes on from it.",
            "--output",
            "-o",
            panel=_OUTPUT,
            metavar="FILE",
        ),
    ] = None,
    csv: Annotated[
        Path | None, option("Write the figures to this file.", panel=_OUTPUT, metavar="FILE.csv")
    ] = None,
    plot: Annotated[
        Path | None,
        option("Draw the figures to this file (.png, .svg, .pdf).", panel=_OUTPUT, metavar="FILE"),
    ] = None,
    submission: Annotated[
        Path | None,
        option(
            "Write the first model's predictions as ORBIT's challenge server takes them.",
            panel=_OUTPUT,
            metavar="FILE",
        ),
    ] = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Compare models on exactly the same tasks: accuracy, intervals, cost."""
    models, data = _split(words, check_pair(support, query))
    names = parse_models(models, baseline_backbone)
    check_pattern(pattern, names)
    config.check()
    _check_numbers(finetune_steps, finetune_lr, image_size, micro_batch)
    read = [folder for folder in (*data, support, query) if folder is not None]
    for folder in read:
        require_folder(folder)
    files = _Files(output, csv, plot, submission, force)
    files.check([name.base for name in names], read)

    from fewshot_lite.cli.render import terminal as render
    from fewshot_lite.core.ranks import join
    from fewshot_lite.core.stopping import StopRequest
    from fewshot_lite.evaluation.finetuning import FineTuning
    from fewshot_lite.evaluation.session import Session
    from fewshot_lite.published.evaluate import evaluate as compare

    tuning = FineTuning(finetune_steps, finetune_lr, pattern)
    with join() as ranks, StopRequest() as stop:
        bars = render.training_bars() if ranks.first else nullcontext(lambda progress: None)
        with bars as report:
            outcome = compare(
                models,
                data or [support or Path()],
                config,
                Session(device, precision, image_size, micro_batch, tuning),
                query=query,
                kind=protocol,
                baseline_backbone=baseline_backbone,
                check=files.check_protocol,
                log=output,
                force=force,
                report=report,
                stop=lambda: bool(stop),
                ranks=ranks,
            )
    if ranks.first:
        _show(outcome, files, json=json)
    if not outcome.comparison.finished:
        sys.exit(INTERRUPTED)  # not typer.Exit: everything has been printed
    if outcome.skipped:
        raise typer.Exit(1)


def _split(words: list[str], pair: bool) -> tuple[list[str], list[Path]]:
    """Split the words into models and data; data is empty if `pair` takes its place.

    The last word is data, and so are the folders right before it.
    """
    if pair and os.path.isdir(words[-1]):
        raise UsageError(f"DATA {words[-1]}: --support and --query take its place. Leave it out.")
    if not words[-1]:
        raise UsageError("DATA is an empty word. Give the folder of the data, or . for this one.")
    if pair:
        return words, []
    models = words[:-1]
    while models and os.path.isdir(models[-1]) and not is_known(models[-1]):
        models.pop()
    return models, [Path(word) for word in words[len(models) :]]


def _check_numbers(steps: int, lr: float, image_size: int | None, micro_batch: int) -> None:
    check_number("--finetune-steps", steps, COUNT)
    check_number("--finetune-lr", lr, Limits(0, 1e3, open_low=True, open_high=True))
    check_number("--micro-batch", micro_batch, COUNT)
    if image_size is not None:
        check_number("--image-size", image_size, IMAGE_SIZE)


#: Names of files that hold tables.
_EXAMPLES = {"output": "scores.jsonl", "csv": "figures.csv", "submission": "submission.json"}


@dataclass(frozen=True)
class _Files:
    """The output files."""

    output: Path | None
    csv: Path | None
    plot: Path | None
    submission: Path | None
    force: bool

    def check(self, models: Sequence[str], data: Sequence[Path]) -> None:
        """Refuse files that cannot be written, or that are a model's, photos or each other's."""
        used = {Path(model).resolve(): model for model in models}
        for name in ("output", "csv", "plot", "submission"):
            flag, path = f"--{name}", getattr(self, name)
            if path is None:
                continue
            if name != "plot":
                check_table_name(path, flag, _EXAMPLES[name])
            # An existing log is continued.
            check_output(path, force=self.force or name == "output", flag=flag)
            other = used.setdefault(path.resolve(), flag)
            if other != flag:
                raise UsageError(f"{flag} {path}: the same file as {other}. Give another name.")
        if self.plot is not None:
            check_figure(self.plot, data=data)
            require_matplotlib()

    def check_protocol(self, protocol: EvaluationProtocol) -> None:
        """Refuse a submission of another protocol than ORBIT's."""
        from fewshot_lite.published.orbit.submission import require_orbit

        if self.submission is not None:
            require_orbit(protocol, self.submission)


def _show(outcome: Outcome, files: _Files, *, json: bool) -> None:
    """Print the figures, then write the files, which may fail."""
    from fewshot_lite.cli.render import evaluate as render_evaluate
    from fewshot_lite.cli.render import terminal as render
    from fewshot_lite.published.orbit.submission import orbit_table

    comparison, orbit = outcome.comparison, orbit_table(outcome)
    render.print_skipped(outcome.skipped)  # also with --json: they are why the exit code is 1
    if json:
        videos = {name: {m: asdict(f) for m, f in by.items()} for name, by in orbit.items()}
        skipped = [asdict(item) for item in outcome.skipped]
        figures = {**comparison.to_json(), "orbit": videos or None}
        render.print_json({**figures, "skipped": skipped})
    else:
        render_evaluate.print_comparison(comparison)
        render_evaluate.print_orbit(orbit)
    if comparison.finished:
        _write(outcome, files)
        return
    how = "With --output it can go on."
    if files.output is not None:
        how = f"The same command goes on from {render.escape(str(files.output))}."
    render.err.print(f"Interrupted: figures are of the tasks done. {how}")
    if files.csv or files.plot or files.submission:
        render.err.print("Files of figures are written once all tasks are done.")


def _write(outcome: Outcome, files: _Files) -> None:
    from fewshot_lite.cli.render import terminal as render
    from fewshot_lite.evaluation.tables import write_csv, write_plot
    from fewshot_lite.published.orbit.submission import write_submission

    if files.csv is not None:
        write_csv(outcome.comparison, files.csv, force=files.force)
    if files.plot is not None:
        write_plot(outcome.comparison, files.plot)
    if files.submission is not None:
        first = outcome.comparison.names[0]
        for problem in write_submission(outcome, first, files.submission, force=files.force):
            render.print_note(problem)
