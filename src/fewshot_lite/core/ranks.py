"""Several processes as one run: `torchrun --nproc-per-node N -m fewshot_lite meta-train ...`.

The loop asks for little: its share of the work, sums over all ranks, and that a failure on one rank
ends all. Without torchrun there is one rank, and all of that is nothing. Counts and texts travel
over gloo on the CPU, where a rank that dies is noticed at once; gradients over NCCL on GPUs.

Reading the environment does not import torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from fewshot_lite.core import jsons as plain_json
from fewshot_lite.core.errors import FewshotError, UsageError

if TYPE_CHECKING:
    import torch

    from fewshot_lite.core.heartbeat import Heartbeat

T = TypeVar("T")
#: Minutes to wait for all ranks to start, and for the slowest at any later point; a rank that has
#: died is noticed much sooner.
_START, _WAIT = 5, 120
#: Seconds that a rank with an error gives another one to say it first.
_SILENCE = 60
#: Characters of a fact that a message can hold.
_LONGEST = 80


class LostRankError(FewshotError):
    """Another rank has died: whichever is left says so."""


@dataclass(frozen=True)
class Place:
    """A process's place as torchrun gives it; the defaults are those of a process on its own."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes and speaks for all."""
        return self.rank == 0


def place() -> Place:
    """This process among the ranks of its job.

    Raises:
        UsageError: the environment is of no launcher that we know.
    """
    names = {"RANK": "rank", "WORLD_SIZE": "size"}
    names |= {"LOCAL_RANK": "local_rank", "LOCAL_WORLD_SIZE": "local_size"}
    if os.environ.get("WORLD_SIZE", "1") in ("", "1"):
        return Place()
    try:
        found = Place(**{field: int(os.environ[name]) for name, field in names.items()})
        _ = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    except (KeyError, ValueError) as error:
        raise UsageError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but the environment lacks what torchrun "
            f"sets ({error}). Start with torchrun, or unset WORLD_SIZE."
        ) from None
    return found


def speaks(error: FewshotError) -> bool:
    """Whether this process prints an error that all ranks have: one of a machine does."""
    local_rank = os.environ.get("LOCAL_RANK", "0") if "WORLD_SIZE" in os.environ else "0"
    # Of a rank that was lost, its neighbour tells too: it may have been the one that speaks.
    return local_rank in (("0", "1") if isinstance(error, LostRankError) else ("0",))


def let_another_speak() -> None:
    """Wait for torchrun to end this process, as it does once the rank that speaks has ended.

    Were this one to end first, torchrun would end the other before it has said what is wrong. It
    comes back if the other has nothing to say.
    """
    time.sleep(_SILENCE)


def refuse_ranks(command: str) -> None:
    """Refuse to run a command that knows one process alone in several.

    Raises:
        UsageError: it was started by torchrun.
    """
    if place().size > 1:
        raise UsageError(f"{command}: runs in one process. Start it without torchrun.")


def device_name(device: str) -> str:
    """The device of this rank, as `devices.pick_device` takes it.

    Raises:
        UsageError: a GPU is named that all ranks would share, or there are too few.
    """
    here = place()
    if here.size == 1 or device == "cpu":
        return device
    import torch

    if device not in ("auto", "cuda"):
        raise UsageError(f"--device {device}: give cuda, of which each rank takes one, or cpu.")
    if not torch.cuda.is_available():
        return "cpu" if device == "auto" else device
    if here.local_rank >= torch.cuda.device_count():
        raise UsageError(
            f"--nproc-per-node {here.local_size}: this machine has {torch.cuda.device_count()} "
            "GPUs, and each rank needs its own. Start fewer, or give --device cpu."
        )
    return f"cuda:{here.local_rank}"


class Ranks:
    """All ranks of a run, seen from one of them."""

    def __init__(self, at: Place = Place(), heart: Heartbeat | None = None) -> None:
        """Without arguments, a process on its own."""
        self.rank, self.size, self.first = at.rank, at.size, at.first
        self._heart = heart

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """The items that this rank is to do, dealt out one by one."""
        return items[self.rank :: self.size]

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over all ranks, in place; the same to the bit on all."""
        if self.size > 1:
            import torch.distributed

            with self._noticing():
                torch.distributed.all_reduce(values)
        return values

    def any(self, value: bool) -> bool:
        """Whether it is true on any rank."""
        if self.size == 1:
            return value
        import torch

        return float(self.sum(torch.tensor([float(value)]))) > 0

    def everyone(self, value: T) -> list[T]:
        """A value of each rank, in their order; anything that can be pickled."""
        if self.size == 1:
            return [value]
        import torch.distributed

        values: list[Any] = [None] * self.size
        with self._noticing():
            torch.distributed.all_gather_object(values, value)
        return values

    def from_first(self, data: bytes) -> bytes:
        """Bytes of the first rank, on all; what the others give is not looked at."""
        if self.size == 1:
            return data
        import numpy
        import torch

        data = data if self.first else b""
        values = torch.zeros(int(self.sum(torch.tensor([len(data)]))), dtype=torch.uint8)
        if self.first:
            values.copy_(torch.from_numpy(numpy.frombuffer(data, numpy.uint8).copy()))
        return self.sum(values).numpy().tobytes()

    def together(self, work: Callable[[], T]) -> T:
        """Do something that may fail; what fails on one rank fails on all, in one message."""
        if self.size == 1:
            return work()
        result, failure = None, None
        try:
            result = work()
        except LostRankError:
            raise
        except Exception as error:
            failure = error
        if not self.any(failure is not None):
            return result  # type: ignore[return-value]
        reasons = self.everyone("" if failure is None else _in_words(failure))
        if failure is not None:
            raise failure
        rank, reason = next((n, text) for n, text in enumerate(reasons) if text)
        raise FewshotError(f"Rank {rank} of {self.size}: {reason}")

    def check_same(self, facts: dict[str, Any], remedy: str) -> None:
        """Refuse ranks that differ in something that all must have alike.

        Args:
            facts: by what to call them; JSON-able.
            remedy: what to do about a difference.

        Raises:
            UsageError: on all ranks, with the first difference; its values, if they are short.
        """
        found = [json.loads(text) for text in self.everyone(plain_json.dumps(facts))]
        for rank, other in enumerate(found):
            for name, value in found[0].items():
                theirs = other.get(name)
                if theirs != value:
                    short = max(len(str(theirs)), len(str(value))) <= _LONGEST
                    what = f"{name} {theirs}, rank 0 has {value}"
                    what = what if short else f"other {name} than rank 0"
                    raise UsageError(f"Rank {rank} of {self.size} has {what}. {remedy}")

    @contextlib.contextmanager
    def _noticing(self) -> Iterator[None]:
        """Errors of communication in words."""
        try:
            yield
        except RuntimeError as error:
            who = self._heart.who_is_silent() if self._heart is not None else "Another rank"
            reason = str(error).splitlines()[0].rpartition("] ")[2].partition(". This is")[0]
            raise LostRankError(
                f"{who} has died or cannot be reached ({reason}). The last checkpoint, if there "
                "is one, is whole: go on with --resume, on any number of ranks."
            ) from None


def _in_words(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, FewshotError) else f"{type(error).__name__}: {text}"


@contextlib.contextmanager
def join() -> Iterator[Ranks]:
    """All ranks of this job as one; without torchrun, one rank.

    Raises:
        FewshotError: the others could not be reached.
    """
    here = place()
    if here.size == 1:
        yield Ranks(here)
        return
    from datetime import timedelta

    import torch
    import torch.distributed as dist
    from torch.distributed.rendezvous import rendezvous

    from fewshot_lite.core.heartbeat import Heartbeat

    on_gpu = torch.cuda.is_available()
    backend = "cpu:gloo,cuda:nccl" if on_gpu and dist.is_nccl_available() else "gloo"
    try:
        store, _, _ = next(rendezvous("env://", timeout=timedelta(minutes=_START)))
        dist.init_process_group(
            backend,
            store=dist.PrefixStore("fewshot-lite", store),  # type: ignore[attr-defined]
            rank=here.rank,
            world_size=here.size,
            timeout=timedelta(minutes=_WAIT),
        )
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise FewshotError(
            f"Rank {here.rank} of {here.size} could not reach the others ({reason})."
        ) from None
    heart = Heartbeat(here.rank, here.size)
    ranks = Ranks(here, heart)
    try:
        heart.start()
        yield ranks
        ranks.everyone(None)  # the first rank may be writing still: its store must outlive the rest
    except BaseException as error:
        heart.stop(_in_words(error)[:300])
        raise
    heart.stop()
    with contextlib.suppress(RuntimeError):
        dist.destroy_process_group()
