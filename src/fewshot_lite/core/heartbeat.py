"""Heartbeats between ranks: one that is killed, frozen or cut off ends the job, not hangs it.

Collectives notice a process that ends, but not a machine that is gone or a process that is stopped,
and NCCL waits for its time limit. So a thread of each rank increments a counter in the job's
key-value store once a second and watches those of the others.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from datetime import timedelta
from typing import NoReturn

import torch.distributed as dist

#: Seconds between beats, of silence until a rank counts as lost, and until it is the suspect after
#: a collective has failed.
_PERIOD, _LIMIT, _SUSPECT = 1.0, 30.0, 4.0


class Heartbeat:
    """Sends the heartbeat of one rank and watches those of the others."""

    def __init__(self, rank: int, size: int) -> None:
        """Connect to the job's store, which torchrun's environment variables name."""
        self.rank, self.size = rank, size
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        # A connection of its own: a store serves one request at a time.
        limit = timedelta(seconds=_LIMIT)
        self._store = dist.TCPStore(host, port, None, False, limit)  # type: ignore[attr-defined]
        self._stop = threading.Event()
        self._beats = 0
        self._heard: dict[int, tuple[str, float]] = {}
        """Rank -> its last beat, and when that was first seen."""
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._beat()

    def start(self) -> None:
        """Beat and watch in a thread until `stop`."""
        self._thread.start()

    def stop(self, failure: str | None = None) -> None:
        """Stop beating; publish the failure that is the reason, if any."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5 * _PERIOD)
        if failure is not None:
            try:
                self._beat(failure)
            except RuntimeError:  # the store is gone: nobody is left to tell
                return

    def who_is_silent(self) -> str:
        """Describe the rank that is lost, for a message; wait some seconds to find out."""
        deadline = time.monotonic() + _SUSPECT + 2 * _PERIOD
        while time.monotonic() < deadline:
            for rank, (beat, since) in list(self._heard.items()):
                if json.loads(beat)["failed"] or time.monotonic() - since > _SUSPECT:
                    return self._describe(rank, beat)
            time.sleep(0.1)
        return "Another rank"

    def _run(self) -> None:
        while not self._stop.wait(_PERIOD):
            try:
                self._beat()
                self._watch()
            except RuntimeError:
                if not self._stop.is_set():
                    self._give_up(0, "The process that keeps the ranks together")
                return
            for rank, (beat, since) in self._heard.items():
                if time.monotonic() - since > _LIMIT and not self._stop.is_set():
                    self._give_up(rank, self._describe(rank, beat))

    def _beat(self, failure: str | None = None) -> None:
        self._beats += 1
        place = f"process {os.getpid()} on {socket.gethostname()}"
        beat = {"beat": self._beats, "place": place, "failed": failure}
        self._store.set(f"heart/{self.rank}", json.dumps(beat))

    def _watch(self) -> None:
        others = [rank for rank in range(self.size) if rank != self.rank]
        beats = self._store.multi_get([f"heart/{rank}" for rank in others])
        for rank, beat in zip(others, (value.decode() for value in beats), strict=True):
            if self._heard.get(rank, ("", 0.0))[0] != beat:
                self._heard[rank] = (beat, time.monotonic())

    def _describe(self, rank: int, beat: str) -> str:
        status = json.loads(beat)
        failed = f" failed ({status['failed']}) and" if status["failed"] else ""
        return f"Rank {rank} of {self.size} ({status['place']}){failed}"

    def _give_up(self, rank: int, who: str) -> NoReturn:
        """End this process, as its main thread may wait for the lost rank forever."""
        if self.rank == (1 if rank == 0 else 0):  # one of the remaining ranks prints
            sys.stderr.write(
                f"Error: {who} has not been heard of for {_LIMIT:.0f} s. The last checkpoint, if "
                "there is one, is whole: go on with --resume, on any number of ranks.\n"
            )
            sys.stderr.flush()
        os._exit(1)
