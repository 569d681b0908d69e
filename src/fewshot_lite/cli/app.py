"""The entry point of the command line.

Torch takes seconds to import, so commands import the library inside their functions, and are
themselves imported when they are run: help and errors in arguments come at once.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Annotated

import typer

from fewshot_lite import __version__
from fewshot_lite.cli.commands import LazyGroup, prepare_help
from fewshot_lite.cli.options import INTERRUPTED
from fewshot_lite.core.errors import FewshotError, speaking_of_flags

# Set before torch is imported: threads of GNU OpenMP that wait spin for some 10 ms by default. On a
# machine that is shared, refining then takes three times as long as with some 0.3 ms.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
# Set before NumPy is imported: threads of OpenBLAS spin for 2^26 ticks by default, some 30 ms after
# each batch of photos; 2^20 are some 0.4 ms.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "20")

app = typer.Typer(
    name="fewshot-lite",
    cls=LazyGroup,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Teach a classifier your own things from a few photos: offline, in seconds.\n\n"
    "[bold]Try it[/]: fewshot-lite demo\n\n"
    "[bold]Your photos[/], one folder per thing:\n\n"
    "  fewshot-lite adapt ./my_objects\n\n"
    "  fewshot-lite classify photo.jpg\n\n"
    "[bold]A base model of your own[/]: fewshot-lite pretrain, then fewshot-lite meta-train",
)


#: Phrases of Typer's parser of values, and plain words for them.
_PHRASES = {
    "Value error, ": "",
    "Input should be a valid integer, unable to parse string as an integer": "give a whole number",
    "Input should be a valid number, unable to parse string as a number": "give a number",
    "Input should be greater than or equal to": "must be at least",
    "Input should be less than or equal to": "must be at most",
}


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"fewshot-lite {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    pass


def _print_error(message: str) -> None:
    from fewshot_lite.cli.render import terminal as render

    render.print_error(message)


def main() -> None:
    """Run the command line; every known failure is one line on stderr and an exit code."""
    gc.set_threshold(50_000)  # importing torch and rich makes many objects, and no rubbish
    with speaking_of_flags():
        _run()


def _run() -> None:
    _open_closed_streams()
    if len(sys.argv) == 1 or not {"-h", "--help"}.isdisjoint(sys.argv):
        prepare_help()
    try:
        with _ended_by_signals():
            code = app(standalone_mode=False)
            sys.stdout.flush()  # here, where it may fail
    except FewshotError as error:
        from fewshot_lite.core.ranks import let_another_speak, speaks

        if not speaks(error):
            let_another_speak()
        _print_error(str(error))
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BrokenPipeError:  # `fewshot-lite classify photos/ | head`
        _forget_stdout()
        sys.exit(1)
    except OSError as error:  # a full disk, a folder taken away: no fault of the program
        _forget_stdout()
        where = f"{error.filename}: " if error.filename else ""
        _print_error(f"{where}{error.strerror or error}.")
        sys.exit(1)
    except Exception as error:
        # Click's errors in arguments. Not all versions of Typer export their class.
        describe = getattr(error, "format_message", None)
        if describe is None:
            raise
        if message := describe().strip():  # empty if help was asked for, which is printed
            context = getattr(error, "ctx", None)
            hint = f" Try `{context.command_path} --help`." if context else ""
            for theirs, ours in _PHRASES.items():
                message = message.replace(theirs, ours)
            message = message.rstrip(".")
            _print_error(message + ("" if message.endswith("?") else ".") + hint)
        sys.exit(getattr(error, "exit_code", 2))
    if code == INTERRUPTED:
        _print_error("Interrupted.")
    sys.exit(code)


def _open_closed_streams() -> None:
    """Open streams in place of those that the program was started without (`>&-`).

    Writing to stdout then fails with one line; what is written to stderr is lost.
    """
    for name, mode in (("stdin", os.O_RDONLY), ("stdout", os.O_RDONLY), ("stderr", os.O_WRONLY)):
        if getattr(sys, name) is None:
            handle = os.open(os.devnull, mode)  # takes the closed number, so that no file gets it
            if name != "stdin":
                setattr(sys, name, os.fdopen(handle, "w"))


def _forget_stdout() -> None:
    """Drop unwritten output, so that Python does not try to write it when it ends."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # replaced by something simpler
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the program as Ctrl-C does, removing temporary files."""

    def end(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    before = {}
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:  # `nohup` ignores it
            with contextlib.suppress(ValueError):  # not the main thread
                before[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
