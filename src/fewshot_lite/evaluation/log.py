"""The log of a comparison, from which it can continue: its configuration, then a line per task."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from fewshot_lite.core import jsons as plain_json
from fewshot_lite.core.errors import UsageError
from fewshot_lite.core.files import READING, failing_as
from fewshot_lite.evaluation.scores import TaskRecord


class TaskLog:
    """The records of finished tasks, in a file of JSON lines or, without a path, in memory.

    `with TaskLog(path, config) as log: ... log.add(record)`
    """

    def __init__(
        self, path: Path | None, config: Mapping[str, Any], *, force: bool = False
    ) -> None:
        """Read the log if it exists.

        Args:
            config: all that the scores depend on, JSON-able.
            force: begin anew if the file is of another comparison.

        Raises:
            UsageError: the file is of another comparison, damaged, or no such log.
            FewshotError: it cannot be read.
        """
        self.path = path
        self._config = json.loads(plain_json.dumps(dict(config)))
        self.records: dict[int, TaskRecord] = {}
        self._file: TextIO | None = None
        self._keep = 0  # bytes of whole lines of this comparison
        if path is not None and path.exists() and path.stat().st_size:
            try:
                self._read(path)
            except UsageError:
                if not force:
                    raise
                self.records, self._keep = {}, 0

    def __enter__(self) -> TaskLog:
        if self.path is not None:
            with failing_as(f"--output {self.path}", "cannot be written"):
                self.path.touch()
                self._file = self.path.open("r+", encoding="utf-8", newline="\n")
                self._file.truncate(self._keep)  # drop what a killed run left of a line
                self._file.seek(self._keep)
            if not self._keep:
                self._write(self._header())
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, record: TaskRecord) -> None:
        """Add the record of a task, written before this returns."""
        self.records[record.number] = record
        self._write(plain_json.dumps(record.to_json()))

    def _header(self) -> str:
        return plain_json.dumps({"comparison": self._config})

    def _write(self, line: str) -> None:
        if self._file is not None:
            self._file.write(line + "\n")
            self._file.flush()

    def _read(self, path: Path) -> None:
        with failing_as(f"--output {path}", READING):
            content = path.read_bytes()
        try:
            if self._header().encode().startswith(content):  # killed while the header was written
                return
            whole = content[: content.rfind(b"\n") + 1]
            first, *others = [plain_json.loads(line) for line in whole.splitlines()] or [{}]
            logged = first["comparison"]
            if not isinstance(logged, dict):
                raise TypeError(logged)
            self.records = {r.number: r for r in map(TaskRecord.from_json, others)}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UsageError(
                f"--output {path}: not a log of `fewshot-lite evaluate`, or damaged. Give another "
                "name, or use --force to overwrite it."
            ) from None
        for name in {**logged, **self._config}:
            if logged.get(name) != self._config.get(name):
                raise UsageError(
                    f"--output {path}: holds a comparison of other {name.replace('_', ' ')} "
                    f"({_short(logged.get(name))}, not {_short(self._config.get(name))}). Give "
                    "another name, or use --force to overwrite it."
                )
        self._keep = len(whole)


def _short(value: Any) -> str:
    text = plain_json.dumps(value, ascii_only=False)
    return text if len(text) <= 60 else text[:59] + "…"
