"""Try hostile things, and count what comes of them, in one way."""

from __future__ import annotations

import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

from benchmarks.common import Row, alone, processor_time
from fewshot_lite.core.errors import FewshotError
from fewshot_lite.evaluation.cost import peak_resident
from fewshot_lite.images.opening import PhotoError

#: What a trial may cost: bytes of memory, seconds of processor time.
LARGE, SLOW = 2 * 2**30, 20
#: Seconds that it may take, however busy the machine is.
PATIENCE = 400
_STARTS = ("subprocess.Popen", "os.system")


@cache
def programs() -> list[str]:
    """Programs that this process started, from the first call on."""
    found: list[str] = []
    sys.addaudithook(lambda event, _: found.append(event) if event in _STARTS else None)
    return found


class TooSlow(BaseException):
    """Raised by an alarm."""


def too_slow(*_: object) -> None:
    raise TooSlow


def trial(name: str, action: Callable[[], object], memory: int = LARGE) -> Row:
    """Run an action in this process, which may hold so many bytes of memory.

    Returns:
        `outcome`: "done", "refused" (by an error of one line), or what went wrong; `answer`, what
        the action returned; `why` it was refused; what it cost; and whether something is `wrong`.
    """
    programs().clear()
    signal.signal(signal.SIGPROF, too_slow)
    signal.signal(signal.SIGALRM, too_slow)
    signal.setitimer(signal.ITIMER_PROF, SLOW)
    signal.alarm(PATIENCE)
    begun = processor_time()
    row: Row = {"name": name, "outcome": "done"}
    try:
        row["answer"] = action()
    except (FewshotError, PhotoError) as error:
        row["outcome"] = "refused" if "\n" not in str(error) else "refused in several lines"
        row["why"] = str(error)
    except (Exception, SystemExit, TooSlow) as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        row["outcome"], where = "uncaught", f"{Path(place.filename).name}:{place.lineno}"
        row["why"] = f"{type(error).__name__} at {where}: {error}"[:200]
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.alarm(0)
    held, seconds, started = peak_resident(), processor_time() - begun, programs().copy()
    as_promised = row["outcome"] in ("done", "refused") and held <= memory and seconds <= SLOW
    row["wrong"] = not as_promised or bool(started)
    return row | {"bytes": held, "seconds": seconds, "programs": started}


def trial_alone(name: str, action: Callable[[], object]) -> Row:
    """The same in a forked process, whose end is an outcome, too."""
    row = alone(trial, name, action, method="fork", patience=PATIENCE)
    return {"name": name, "outcome": row.get("failed"), "wrong": True} | row


def summary(rows: Iterable[Row]) -> Row:
    """Outcomes of one family of trials, the most that one of them cost, and all that went wrong."""
    found = list(rows)
    return {
        "tried": len(found),
        "outcomes": Counter(row["outcome"] for row in found),
        "most_gigabytes": max((row.get("bytes", 0) for row in found), default=0) / 1e9,
        "most_seconds": max((row.get("seconds", 0) for row in found), default=0),
        "wrong": [row for row in found if row["wrong"]],
    }
