"""Answers as CSV, JSON lines or one JSON array, each written as it comes."""

from __future__ import annotations

import csv
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, TextIO

from fewshot_lite.core.files import atomic_path, failing_as
from fewshot_lite.core.jsons import dumps_for
from fewshot_lite.core.text import csv_cell
from fewshot_lite.personal.prediction import Prediction

#: As a path: standard output.
STDOUT = Path("-")


class Writer(ABC):
    """Takes in answers one by one."""

    def __init__(self, stream: Output) -> None:
        self.stream = stream

    @abstractmethod
    def write(self, prediction: Prediction) -> None:
        """One answer."""

    def end(self) -> None:  # noqa: B027  # most have nothing to add
        """There are no more."""


class CsvWriter(Writer):
    """A header and a row for each file; what is not known is empty, probabilities have 6 digits."""

    def __init__(self, stream: Output, pairs: int, *, moments: bool = False) -> None:
        """Write the header.

        Args:
            stream: where to.
            pairs: how many class names a row has, each with its probability.
            moments: after a video, a row for each of its moments, and a column for when that is.
        """
        self._pairs, self._moments = pairs, moments
        self._rows = csv.writer(stream, lineterminator="\n")
        ranks = range(1, pairs + 1)
        pair_names = [name for k in ranks for name in (f"label_{k}", f"probability_{k}")]
        when = ["seconds"] if moments else []
        self._rows.writerow(
            [
                *("path", *when, "label", "probability", "strangeness", *pair_names),
                *("problem", "adapted_to"),
            ]
        )

    def write(self, prediction: Prediction) -> None:
        pairs = [cell for name, p in prediction.labels for cell in (csv_cell(name), _number(p))]
        pairs += [""] * (2 * self._pairs - len(pairs))
        self._rows.writerow(
            [
                csv_cell(prediction.path),
                *([_number(prediction.seconds)] if self._moments else []),
                csv_cell(prediction.label),
                _number(prediction.probability),
                _number(prediction.strangeness),
                *pairs[: 2 * self._pairs],
                csv_cell(prediction.problem),
                "yes" if prediction.adapted_to else "",
            ]
        )
        for moment in prediction.time_line if self._moments else ():
            self.write(moment)


class JsonLinesWriter(Writer):
    """One JSON object a line."""

    def write(self, prediction: Prediction) -> None:
        self.stream.write(dumps_for(self.stream.encoding, as_record(prediction)) + "\n")


class JsonWriter(Writer):
    """One JSON array; until `end` it is open, so what was cut off cannot pass for whole."""

    _before = "[\n"

    def write(self, prediction: Prediction) -> None:
        text = dumps_for(self.stream.encoding, as_record(prediction), indent=2)
        self.stream.write(self._before + "  " + text.replace("\n", "\n  "))
        self._before = ",\n"

    def end(self) -> None:
        self.stream.write("[]\n" if self._before == "[\n" else "\n]\n")


def as_record(prediction: Prediction) -> dict[str, Any]:
    """An answer as JSON-able values."""
    return {
        "path": None if prediction.path is None else str(prediction.path),
        "label": prediction.label,
        "probability": prediction.probability,
        "strangeness": prediction.strangeness,
        "labels": [{"name": n, "probability": p} for n, p in prediction.labels],
        "problem": prediction.problem,
        "adapted_to": prediction.adapted_to,
        **({} if prediction.frames is None else {"frames": prediction.frames}),
        **({"time_line": list(map(_moment, prediction.time_line))} if prediction.time_line else {}),
    }


def _moment(prediction: Prediction) -> dict[str, Any]:
    """One of a video's moments as JSON-able values."""
    found = as_record(prediction)
    for name in ("path", "problem", "adapted_to"):
        del found[name]
    return {"seconds": prediction.seconds, **found}


def _number(value: float | None) -> str:
    if value is None or value != value:  # NaN
        return ""
    return f"{value:.6g}"


class Output:
    """A text stream whose failures are one line that names it."""

    def __init__(self, stream: TextIO, name: str, *, live: bool = False) -> None:
        """Wrap a stream.

        Args:
            stream: what to write to.
            name: what to call it.
            live: let others read each piece at once.
        """
        self._stream = stream
        self._name = name
        self._live = live
        self.encoding = getattr(stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> None:
        """Write a piece of text.

        Raises:
            FewshotError: it could not be written.
            BrokenPipeError: the reader has left.
        """
        with failing_as(self._name):
            self._stream.write(text)
            if self._live:
                self._stream.flush()


@contextmanager
def open_output(
    path: Path, flag: str, *, live: bool = False, force: bool = True
) -> Iterator[Output]:
    """A file that is there, whole, only if the block ends well; or standard output.

    Args:
        path: where to; `STDOUT`.
        flag: of the command line, for messages.
        live: write in place, so that others can read along; what was written stays.
        force: the file may be there.
    """
    if path == STDOUT:
        yield Output(sys.stdout, "stdout", live=live)
        with failing_as("stdout"):
            sys.stdout.flush()
        return
    name = f"{flag} {path}"
    with ExitStack() as stack:
        with failing_as(name):
            whole = nullcontext(path) if live else atomic_path(path, force=force)
            target = stack.enter_context(whole)
            new = live and not force and not target.exists()
            file = target.open(
                "x" if new else "w", encoding="utf-8", errors="backslashreplace", newline=""
            )
        try:
            yield Output(file, name, live=live)
        except BaseException:
            with suppress(OSError):
                file.close()
            raise
        with failing_as(name):
            file.close()
            stack.close()
