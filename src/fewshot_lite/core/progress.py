"""Progress reports of long work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Progress:
    """The state of a run, for one refresh of a progress bar."""

    step: int
    """Units of work done, e.g. steps of `pretrain` or tasks of `meta-train`."""
    total: int
    phase: str
    values: dict[str, float] = field(default_factory=dict)


Report = Callable[[Progress], None]


def counting(report: Report | None, total: int, phase: str) -> Callable[[int], None]:
    """Return a function of the number of photos done that reports every hundredth and the last."""

    def count(done: int) -> None:
        if report is not None and (done % 100 == 0 or done == total):
            report(Progress(done, total, phase))

    return count


#: Called with (number done, total).
OnDone = Callable[[int, int], None]
