"""Answers as CSV, JSON lines or one JSON array, each written as it comes."""

from __future__ import annotations

import contextlib
import csv
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TextIO

from fewshot_lite.core import jsons as plain_json
from fewshot_lite.core.errors import FewshotError
from fewshot_lite.core.files import atomic_path
from fewshot_lite.core.text import csv_cell
from fewshot_lite.personal.prediction import Prediction

#: As a path: standard output.
STDOUT = Path("-")


class Writer(Protocol):
    """Takes in answers one by one."""

    def write(self, prediction: Prediction) -> None:
        """One answer."""
        ...

    def end(self) -> None:
        """There are no more."""
        ...


class CsvWriter:
    """A header and a row for each file; what is not known is empty, probabilities have 6 digits."""

    def __init__(self, stream: Output, pairs: int) -> None:
        """Write the header.

        Args:
            stream: where to.
            pairs: how many class names a row has, each with its probability.
        """
        self._pairs = pairs
        self._rows = csv.writer(stream, lineterminator="\n")
        ranks = range(1, pairs + 1)
        pair_names = [name for k in ranks for name in (f"label_{k}", f"probability_{k}")]
        self._rows.writerow(["path", "label", "probability", "strangeness", *pair_names, "problem"])

    def write(self, prediction: Prediction) -> None:
        pairs = [cell for name, p in prediction.labels for cell in (csv_cell(name), _number(p))]
        pairs += [""] * (2 * self._pairs - len(pairs))
        self._rows.writerow(
            [
                csv_cell(prediction.path),
                csv_cell(prediction.label),
                _number(prediction.probability),
                _number(prediction.strangeness),
                *pairs[: 2 * self._pairs],
                csv_cell(prediction.problem),
            ]
        )

    def end(self) -> None:
        pass


class JsonLinesWriter:
    """One JSON object a line."""

    def __init__(self, stream: Output) -> None:
        self._stream = stream

    def write(self, prediction: Prediction) -> None:
        self._stream.write(
            plain_json.dumps_for(self._stream.encoding, as_record(prediction)) + "\n"
        )

    def end(self) -> None:
        pass


class JsonWriter:
    """One JSON array; until `end` it is open, so what was cut off cannot pass for whole."""

    def __init__(self, stream: Output) -> None:
        self._stream = stream
        self._before = "[\n"

    def write(self, prediction: Prediction) -> None:
        text = "  " + plain_json.dumps_for(
            self._stream.encoding, as_record(prediction), indent=2
        ).replace("\n", "\n  ")
        self._stream.write(self._before + text)
        self._before = ",\n"

    def end(self) -> None:
        self._stream.write("[]\n" if self._before == "[\n" else "\n]\n")


def as_record(prediction: Prediction) -> dict[str, Any]:
    """An answer as JSON-able values."""
    return {
        "path": str(prediction.path),
        "label": prediction.label,
        "probability": prediction.probability,
        "strangeness": prediction.strangeness,
        "labels": [{"name": n, "probability": p} for n, p in prediction.labels],
        "problem": prediction.problem,
    }


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
        try:
            self._stream.write(text)
            if self._live:
                self._stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise could_not_write(self._name, error) from None


def could_not_write(name: str, error: OSError) -> FewshotError:
    """The line for an output that the disk did not take."""
    reason = (error.strerror or str(error)).lower()
    return FewshotError(f"{name}: could not be written ({reason}).")


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
        output = Output(sys.stdout, "stdout", live=live)
        yield output
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise could_not_write("stdout", error) from None
        return
    inside: BaseException | None = None
    try:
        with contextlib.nullcontext(path) if live else atomic_path(path, force=force) as target:
            new = live and not force and not target.exists()
            file = target.open(
                "x" if new else "w", encoding="utf-8", errors="backslashreplace", newline=""
            )
            try:
                yield Output(file, f"{flag} {path}", live=live)
            except BaseException as error:
                inside = error
                with contextlib.suppress(OSError):
                    file.close()
                raise
            file.close()
    except OSError as error:
        if error is inside:
            raise
        raise could_not_write(f"{flag} {path}", error) from None
