"""Write answers one by one as CSV, JSON lines or a JSON array."""

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

#: The path that stands for standard output.
STDOUT = Path("-")


class Writer(ABC):
    """Writes answers one by one."""

    def __init__(self, stream: Output) -> None:
        self.stream = stream

    @abstractmethod
    def write(self, prediction: Prediction) -> None:
        """Write an answer."""

    def end(self) -> None:  # noqa: B027  # most have nothing to add
        """Finish after the last answer."""


class CsvWriter(Writer):
    """Writes a header and a row for each file; unknown values are empty, numbers have 6 digits."""

    def __init__(self, stream: Output, pairs: int, *, moments: bool = False) -> None:
        """Write the header.

        Args:
            stream: the output.
            pairs: class names in a row, each with its probability.
            moments: add a column for the time, and after a video a row for each of its moments.
        """
        self._pairs, self._moments = pairs, moments
        self._rows = csv.writer(stream, lineterminator="\n")
        ranks = range(1, pairs + 1)
        pair_names = [name for k in ranks for name in (f"label_{k}", f"probability_{k}")]
        columns = ["path", *["seconds"] * moments, "label", "probability", "strangeness"]
        self._rows.writerow([*columns, *pair_names, "problem", "adapted_to"])

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
    """Writes a JSON object a line."""

    def write(self, prediction: Prediction) -> None:
        self.stream.write(dumps_for(self.stream.encoding, as_record(prediction)) + "\n")


class JsonWriter(Writer):
    """Writes one JSON array; without `end` it is invalid, so a truncated file is recognised."""

    _before = "[\n"

    def write(self, prediction: Prediction) -> None:
        text = dumps_for(self.stream.encoding, as_record(prediction), indent=2)
        self.stream.write(self._before + "  " + text.replace("\n", "\n  "))
        self._before = ",\n"

    def end(self) -> None:
        self.stream.write("[]\n" if self._before == "[\n" else "\n]\n")


def as_record(prediction: Prediction) -> dict[str, Any]:
    """Convert an answer to JSON-able values, null where there is none."""
    moments = [_moment(moment) for moment in prediction.time_line]
    return {
        "path": None if prediction.path is None else str(prediction.path),
        "label": prediction.label,
        "probability": prediction.probability,
        "strangeness": prediction.strangeness,
        "labels": [{"name": n, "probability": p} for n, p in prediction.labels],
        "problem": prediction.problem,
        "adapted_to": prediction.adapted_to,
        "frames": prediction.frames,
        "time_line": moments or None,
    }


def _moment(prediction: Prediction) -> dict[str, Any]:
    """Convert the answer for a moment of a video to JSON-able values."""
    record = as_record(prediction)
    for name in ("path", "problem", "adapted_to", "frames", "time_line"):
        del record[name]
    return {"seconds": prediction.seconds, **record}


def _number(value: float | None) -> str:
    if value is None or value != value:  # NaN
        return ""
    return f"{value:.6g}"


class Output:
    """A text stream whose errors name it."""

    def __init__(self, stream: TextIO, name: str, *, live: bool = False) -> None:
        """Wrap a stream.

        Args:
            stream: the stream to write to.
            name: its name in errors.
            live: flush after each write.
        """
        self._stream = stream
        self._name = name
        self._live = live
        self.encoding = getattr(stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> None:
        """Write text.

        Raises:
            FewshotError: it could not be written.
            BrokenPipeError: the reader has closed the pipe.
        """
        with failing_as(self._name):
            self._stream.write(text)
            if self._live:
                self._stream.flush()


@contextmanager
def open_output(
    path: Path, flag: str, *, live: bool = False, force: bool = True
) -> Iterator[Output]:
    """Open a file that appears, complete, only if the block ends without an error; or stdout.

    Args:
        path: the file, or `STDOUT`.
        flag: the flag that named it, for messages.
        live: write in place, so that others can read along; what was written stays.
        force: overwrite an existing file.
    """
    if path == STDOUT:
        yield Output(sys.stdout, "stdout", live=live)
        with failing_as("stdout"):
            sys.stdout.flush()
        return
    name = f"{flag} {path}"
    with ExitStack() as stack:
        with failing_as(name):
            writable = nullcontext(path) if live else atomic_path(path, force=force)
            target = stack.enter_context(writable)
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
