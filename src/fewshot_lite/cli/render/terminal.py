"""Output to the terminal. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import contextlib
import math
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich.markup
from rich.console import Console
from rich.table import Table

from fewshot_lite.core import jsons as plain_json
from fewshot_lite.core.errors import TAKE_ANOTHER, FewshotError
from fewshot_lite.core.files import DEFAULT_PERSONAL
from fewshot_lite.core.ranks import place
from fewshot_lite.core.text import visible

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from fewshot_lite.core.progress import Progress as Step
    from fewshot_lite.demo.run import DemoResult
    from fewshot_lite.images.folders import Skipped
    from fewshot_lite.personal.support import Support

#: Wider than any line: tables in files and pipes are neither wrapped nor cut.
_NO_LIMIT = 100_000


def _console(*, stderr: bool) -> Console:
    """Return a console with colours on terminals and plain, unwrapped lines elsewhere."""
    stream = sys.stderr if stderr else sys.stdout
    with contextlib.suppress(AttributeError, ValueError):  # a stand-in without `reconfigure`
        # Names that the encoding lacks must not end the program.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    width = None if stream.isatty() else _NO_LIMIT
    return Console(stderr=stderr, soft_wrap=True, highlight=False, emoji=False, width=width)


out = _console(stderr=False)
err = _console(stderr=True)

#: The most skipped files that are listed, rows of a table of classes, and names in one cell.
_MOST_SKIPPED, MOST_ROWS, _MOST_NAMES = 50, 40, 30
#: The most edits of a personal model that `info` prints, the latest; --json has all.
_MOST_EDITS = 5


def escape(text: str) -> str:
    """Return text that Rich prints literally, on one line; see `core.text.visible`."""
    return rich.markup.escape(visible(text))


def print_table(table: Table) -> None:
    """Print a table to stdout; on a terminal its cells are wrapped at words."""
    out.print(table, soft_wrap=False)


def print_error(message: str) -> None:
    """Print an error as one line to stderr."""
    err.print(f"[bold red]Error:[/] {escape(' '.join(message.strip().splitlines()))}")


def print_note(message: str) -> None:
    """Print a remark as one line to stderr."""
    err.print(f"[dim]{escape(message)}[/]")


def print_json(value: Any) -> None:
    """Print a result as JSON to stdout, escaping only the characters that its encoding lacks."""
    sys.stdout.write(plain_json.dumps_for(sys.stdout.encoding, value, indent=2) + "\n")


def command(*words: object) -> str:
    """Return a command line as it has to be typed."""
    return shlex.join(["fewshot-lite", *(str(word) for word in words)])


def _bars(*, transient: bool = False, values: bool = False) -> Progress:
    """Return progress bars with counts on stderr; silent where that is no terminal."""
    from rich import progress  # not needed for one photo, and slow to import

    columns = [
        progress.TextColumn("{task.description}"),
        progress.BarColumn(bar_width=24),
        progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(),
        *([progress.TextColumn("{task.fields[values]}")] if values else []),
    ]
    return progress.Progress(
        *columns, console=err, disable=not err.is_terminal, transient=transient
    )


@contextmanager
def training_bars() -> Iterator[Callable[[Step], None]]:
    """Show a bar for each phase of a training run; silent where stderr is no terminal."""
    with _bars(values=True) as progress:
        bars: dict[str, TaskID] = {}

        def report(step: Step) -> None:
            values = "  ".join(f"{name} {value:.3g}" for name, value in step.values.items())
            if step.phase not in bars:
                bars[step.phase] = progress.add_task(escape(step.phase), values="")
            progress.update(
                bars[step.phase], total=step.total, completed=step.step, values=escape(values)
            )

        yield report


@contextmanager
def counting_bar(description: str) -> Iterator[Callable[..., None]]:
    """Show a bar driven by (done, total) and, optionally, a new description; total may be None."""
    with _bars(transient=True) as progress:
        bar = progress.add_task(description, total=None)

        def update(done: int, total: int | None, text: str = description) -> None:
            progress.update(bar, completed=done, total=total, description=text)

        yield update


def print_skipped(skipped: Sequence[Skipped]) -> None:
    """Print the files that were left out, each with its reason."""
    for item in skipped[:_MOST_SKIPPED]:
        err.print(f"[yellow]Skipped[/] {escape(str(item.path))}: {escape(item.reason)}")
    if len(skipped) > _MOST_SKIPPED:
        err.print(f"[yellow]Skipped[/] {len(skipped) - _MOST_SKIPPED} more (--json lists all)")


def print_adaptation(adaptation: Support, path: object) -> None:
    """Print the table of classes and the model's path."""
    table = Table("class", box=None, pad_edge=False)
    table.add_column("photos used", justify="right")
    table.add_column("skipped", justify="right")
    for number, name in enumerate(adaptation.class_names[:MOST_ROWS]):
        skipped = adaptation.skipped_per_class[number]
        clips = adaptation.clips[number] if adaptation.clips else 0
        of = f" (of {clips} video{'s' * (clips > 1)})" if clips else ""
        table.add_row(escape(name), f"{adaptation.used[number]}{of}", str(skipped or ""))
    more = len(adaptation.class_names) - MOST_ROWS
    if more > 0:
        used = sum(adaptation.used[MOST_ROWS:])
        skipped = sum(adaptation.skipped_per_class[MOST_ROWS:])
        table.add_row(f"… and {more} more", str(used), str(skipped or ""))
    print_table(table)
    print_skipped(adaptation.skipped)
    total = sum(adaptation.used)
    out.print(
        f"Adapted to {total} photos of {len(adaptation.class_names)} classes "
        f"in {adaptation.seconds:.1f} s: [bold]{escape(str(path))}[/]"
    )


def print_next(*words: object) -> None:
    """Print the command to type next."""
    out.print(f"Next: [bold]{escape(command(*words))}[/]")


def model_flag(model: Path) -> tuple[object, ...]:
    """Return the `--model` option of a command; empty for the default model."""
    return () if model == DEFAULT_PERSONAL else ("--model", model)


def print_demo(result: DemoResult) -> None:
    """Print the demo's result and the commands to try next."""
    low, high = result.interval
    for path, answer in result.mistakes:
        out.print(f"[yellow]Taken for {escape(answer)}:[/] {escape(str(path))}")
    out.print(
        f"Drew {len(result.classes)} kinds of things ({', '.join(result.classes)}), adapted to "
        f"{result.adapted_on} drawings in {result.seconds_to_adapt:.1f} s, and named "
        f"{result.correct} of {result.total} held-back ones right: "
        f"[bold green]{result.accuracy:.1%}[/] (95 % interval {low:.0%} to {high:.0%})."
    )
    first = min(result.held_back.glob("*/*.jpg"))
    out.print("Look at them, then try:")
    out.print(f"  [bold]{escape(command('classify', first, '--model', result.model))}[/]")
    out.print("On your own photos, one folder per thing:")
    out.print(f"  [bold]{escape(command('adapt', './my_objects'))}[/]")
    out.print(f"  [bold]{escape(command('classify', 'photo.jpg'))}[/]")


def print_info(meta: dict[str, Any], path: object, size: int) -> None:
    """Print the description of a checkpoint, one fact a line."""
    try:
        rows = list(_info_rows(meta))
    except (AttributeError, KeyError, TypeError, ValueError):
        raise FewshotError(f"{path}: its description is damaged. {TAKE_ANOTHER}") from None
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column()
    for name, value in rows:
        table.add_row(escape(name), escape(value))
    kind = _KINDS.get(meta["kind"]) or escape(f"a file of the kind {meta['kind']!r}")
    out.print(f"[bold]{escape(str(path))}[/]: {kind}")
    table.add_row("size", f"{size / 1e6:.1f} MB")
    print_table(table)


_KINDS = {
    "backbone": "a pre-trained backbone (for meta-train --weights)",
    "meta": "a meta-trained model (for adapt --base)",
    "exported": "a personal model in ONNX (for classify --model)",
    "personal": "a personal model (for classify --model)",
    "state": "the state of an unfinished training run (for --resume)",
}


def _info_rows(meta: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for key in ("learner", "backbone", "image_size", "version"):
        if key in meta:
            yield key.replace("_", " "), str(meta[key])
    if isinstance(int8 := meta.get("int8"), dict):
        changed = f"{int8.get('changed', '?')} of {int8.get('photos', '?')}"
        yield "precision", f"eight bits, which changed {changed} answers"
    if "class_names" in meta:
        pairs = list(zip(meta["class_names"], meta["shots"], strict=True))
        words = ", ".join(f"{name} ({shots})" for name, shots in pairs[:_MOST_NAMES])
        more = len(pairs) - _MOST_NAMES
        yield "classes", words + (f" … and {more} more (--json lists all)" if more > 0 else "")
    if meta.get("thumbnails"):
        yield "thumbnails", f"of {meta['thumbnails']} photos"
    record = meta.get("record", meta)
    for key in ("tasks", "steps"):
        if key in record:
            done, total = record[key]
            yield key, f"{done} of {total}"
    if "step" in meta:
        yield "step", str(meta["step"])
    if "provenance" in meta:
        origin = meta["provenance"]
        base = origin.get("base", {})
        yield "made", f"{origin.get('created', '?')} with fewshot-lite {origin.get('version', '?')}"
        yield "base", f"{base.get('name', '?')} (SHA-256 {base.get('sha256', '?')[:16]}…)"
        for edit in origin.get("edits", [])[-_MOST_EDITS:]:
            yield "changed", _edit_in_words(edit)
    for name, names in (record.get("data") or record.get("classes") or {}).items():
        yield "trained on", f"{name}: {len(names)} classes"
    for name, value in (record.get("figures") or {}).items():
        several = isinstance(value, dict) and all(isinstance(x, float) for x in value.values())
        if isinstance(value, float):
            yield name.replace("_", " "), f"{value:.4g}"
        elif value and several:
            yield name.replace("_", " "), ", ".join(f"{k} {x:.4g}" for k, x in value.items())
        elif value:
            yield name.replace("_", " "), plain_json.dumps(value)


def _edit_in_words(edit: dict[str, Any]) -> str:
    """Return an edit, as `personal.editing` records it, in words."""
    [(kind, classes)] = [item for item in edit.items() if item[0] != "date"]
    names = (
        f"{name} ({value})" if isinstance(value, int) else f"{name} to {value}"
        for name, value in classes.items()
    )
    return f"{edit['date']} {kind} {', '.join(names)}"


def print_run(result: dict[str, Any], onward: Sequence[object], *, unit: str, done: int) -> None:
    """Print how a training run ended and the next command."""
    output = escape(str(result["output"]))
    figures = ""
    if math.isfinite(result["loss"]):  # there was a step
        figures = f" (loss {result['loss']:.3f}, accuracy {result['accuracy']:.1%})"
    if result.get("skipped"):
        err.print(f"[yellow]Skipped[/] {result['skipped']} steps: their loss was not finite.")
    if result["unreadable"]:
        err.print(
            f"[yellow]Skipped[/] {result['unreadable']} photos that cannot be read; "
            f"{escape(str(result['log']))} names them."
        )
    if replaced := result.get("replaced"):
        err.print(
            f"[yellow]Replaced[/] by others: {len(replaced)} photos that could not be read any more"
        )
        for line in replaced[:_MOST_SKIPPED]:
            err.print(f"  {escape(line)}")
        if len(replaced) > _MOST_SKIPPED:
            err.print(f"  and {len(replaced) - _MOST_SKIPPED} more; see {result['log']}")
    if result.get("not_validated"):
        err.print(
            f"[yellow]Left out[/] of validation: {result['not_validated']} classes with too few "
            f"photos; {escape(str(result['log']))} names them."
        )
    if result["finished"]:
        out.print(f"Done after {done} {unit}{figures}: [bold]{output}[/]")
        if result.get("exact"):
            out.print(f"  {result['exact']} tasks had no more than --h images; all were taken")
        if result.get("best_after"):
            out.print(
                f"  the weights are those after {result['best_after']} tasks, which scored best"
            )
        for name, value in result.get("validation", {}).items():
            out.print(f"  validation {escape(name)}: {value:.1%}")
        print_next(*onward)
    else:
        out.print(
            f"Stopped after {done} of {result['total']} {unit}{figures}. "
            f"[bold]{output}[/] is usable as it is."
        )
        again = " ".join([*(shlex.quote(word) for word in _invocation()), "--resume"])
        out.print(f"Go on with: [bold]{escape(again)}[/]")


def _invocation() -> list[str]:
    """Return this command as it was typed, without --resume and --force."""
    ranks = place().local_size
    launch = ["fewshot-lite"]
    if ranks > 1:
        launch = ["torchrun", "--nproc-per-node", str(ranks), "-m", "fewshot_lite"]
    return [*launch, *(w for w in sys.argv[1:] if w not in ("--resume", "--force"))]
