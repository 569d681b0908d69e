"""The output of `classify`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fewshot_lite.cli.render.terminal import counting_bar, err, escape, out

if TYPE_CHECKING:
    from fewshot_lite.personal.bulk import Outputs, Tally
    from fewshot_lite.personal.prediction import Prediction

#: The most classes in the line of totals.
_MOST_CLASSES = 30


def print_prediction(prediction: Prediction) -> None:
    """Print a line with path, class, probability and runners-up, or the nearest of an unknown."""
    path = escape(str(prediction.path))
    if prediction.problem is not None:
        err.print(f"[yellow]Skipped[/] {path}: {escape(prediction.problem)}")
        return
    label = f"{path}: [bold]{escape(prediction.label or '')}[/]"
    others = [f"{escape(name)} {p:.0%}" for name, p in prediction.labels]
    prefix = "nearest: "
    if not prediction.unknown:
        label += f" {prediction.probability:.0%}"
        others, prefix = others[1:], ""
    tail = f"  [dim]({prefix}{'  '.join(others)})[/]" if others else ""
    if prediction.adapted_to:
        tail += "  [dim]adapted to this[/]"
    out.print(label + tail)
    for moment in prediction.time_line:
        out.print(f"  {as_time(moment.seconds or 0)} {_in_words(moment)}")


def as_time(seconds: float) -> str:
    """Return minutes and seconds: 0:07.50."""
    return f"{int(seconds // 60)}:{seconds % 60:05.2f}"


def _in_words(moment: Prediction) -> str:
    if moment.label is None:
        return escape(moment.problem or "")
    probability = "" if moment.unknown else f" {moment.probability:.0%}"
    return f"[bold]{escape(moment.label)}[/]{probability}"


def has_bar(outputs: Outputs) -> bool:
    """Return whether `show` will have a progress bar, which needs the number of files."""
    on_terminal = bool(outputs.on_stdout) and out.is_terminal
    return err.is_terminal and not on_terminal and bool(outputs.answer_files or outputs.on_stdout)


@contextmanager
def show(
    outputs: Outputs, *, live: bool, total: int | None = None
) -> Iterator[Callable[[Prediction, Tally], None]]:
    """Yield a function that prints each answer, or moves a bar where answers are written elsewhere.

    Args:
        outputs: files, or JSON on stdout, take the place of text.
        live: flush each line.
        total: the number of files, if known.
    """
    if not (outputs.answer_files or outputs.on_stdout):

        def print_line(prediction: Prediction, tally: Tally) -> None:
            print_prediction(prediction)
            if live:
                sys.stdout.flush()

        yield print_line
    elif outputs.on_stdout and out.is_terminal:  # a bar would run through the JSON
        yield lambda prediction, tally: None
    else:
        with counting_bar("Classifying") as progress:

            def count(prediction: Prediction, tally: Tally) -> None:
                if prediction.problem is not None and not outputs.on_stdout:
                    print_prediction(prediction)
                progress(tally.files, total)

            yield count


def print_tally(tally: Tally, outputs: Outputs) -> None:
    """Print to stderr the files that were written and the photos that failed."""
    done = tally.files - tally.failed - tally.skipped
    for path in outputs.files.values():
        err.print(f"Wrote {_path(path)}: {_counted(tally.files, 'file')}, {done} classified.")
    if outputs.sort_into is not None:
        verb = "Linked" if outputs.link else "Copied"
        kept = f", {tally.left} were there already" if tally.left else ""
        err.print(
            f"{verb} {_counted(tally.placed, 'photo')} into {_path(outputs.sort_into)}{kept}."
        )
        if tally.moved:
            err.print(f"Moved {_counted(tally.moved, 'earlier copy', 'earlier copies')}.")
        for now, earlier in tally.twice:
            err.print(f"[yellow]In two classes:[/] {escape(str(now))} and {escape(str(earlier))}")
        if tally.in_two_classes:
            more = tally.in_two_classes - len(tally.twice)
            rest = f"{more} more. " if more else ""
            err.print(f"{rest}The model has changed since: --resort moves the earlier copies.")
    if tally.adapted_to and not outputs.on_stdout and tally.files > 1:
        err.print(
            f"The model was adapted to {tally.adapted_to} of these: they are no test of it"
            f"{', and not in the totals' if len(tally.labels) > 1 else ''}."
        )
    if len(tally.labels) > 1 and not outputs.on_stdout:
        counts = ", ".join(
            f"{escape(name)} {n}" for name, n in tally.labels.most_common(_MOST_CLASSES)
        )
        more = len(tally.labels) - _MOST_CLASSES
        err.print(f"Totals: {counts}{f' and {more} more classes' if more > 0 else ''}.")
    if tally.failed:
        noun = "file" if tally.files == 1 else "files"
        err.print(f"{tally.failed} of {tally.files} {noun} could not be classified.")


def _path(path: Path) -> str:
    return f"[bold]{escape(str(path))}[/]"


def _counted(number: int, noun: str, nouns: str | None = None) -> str:
    return f"{number} {noun if number == 1 else nouns or noun + 's'}"
