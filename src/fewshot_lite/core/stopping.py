"""Graceful stops of long runs; importing this does not import torch."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any


class StopRequest:
    """Context that turns Ctrl-C and SIGTERM into a request; a second Ctrl-C stops at once.

    `with StopRequest() as stop: ... if stop: save and leave`.
    """

    def __init__(self) -> None:
        self._asked = False
        self.terminated = False
        """Whether the request was SIGTERM, as clusters send it."""
        self._previous: dict[signal.Signals, Any] = {}

    def __bool__(self) -> bool:
        return self._asked

    def __enter__(self) -> StopRequest:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._previous[number] = signal.signal(number, self._ask)
            except ValueError:  # not the main thread: leave the caller's signal handlers alone
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
