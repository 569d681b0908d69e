"""How far long work has come, as it is reported to a progress bar."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Progress:
    """Where a run stands: one line of the log, one refresh of the bar."""

    step: int
    """Units of work done, e.g. steps of `pretrain` or tasks of `meta-train`."""
    total: int
    phase: str
    values: dict[str, float] = field(default_factory=dict)


Report = Callable[[Progress], None]


def counting(report: Report | None, total: int, phase: str) -> Callable[[int], None]:
    """A function of how many photos are done, which reports every hundredth and the last."""

    def count(done: int) -> None:
        if report is not None and (done % 100 == 0 or done == total):
            report(Progress(done, total, phase))

    return count


#: Called with (how many are done, how many there are).
OnDone = Callable[[int, int], None]
