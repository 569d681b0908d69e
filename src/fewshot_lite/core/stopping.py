"""Ending long runs politely; importing it does not import torch."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any


class StopRequest:
    """Ctrl-C and SIGTERM ask for a stop at the next step; a second Ctrl-C stops at once.

    `with StopRequest() as stop: ... if stop: save and leave`.
    """

    def __init__(self) -> None:
        self._asked = False
        self.terminated = False
        """Whether it was SIGTERM that asked: a cluster that wants its machine back."""
        self._previous: dict[signal.Signals, Any] = {}

    def __bool__(self) -> bool:
        return self._asked

    def __enter__(self) -> StopRequest:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._previous[number] = signal.signal(number, self._ask)
            except ValueError:  # not the main thread: the caller's signals are not ours to take
                return self
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        self.terminated = number == signal.SIGTERM
