"""Distributed runs: `torchrun --nproc-per-node N -m fewshot_lite meta-train ...`.

`Ranks` gives a training loop its share of the work and sums over all ranks, and ends all ranks when
one fails. Without torchrun there is a single rank and nothing to communicate. Counts and texts
travel over gloo on the CPU, which notices a dead rank at once; gradients over NCCL on GPUs.

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
#: Timeouts in minutes: for all ranks to start, and of any later collective; a rank that has died is
#: noticed much sooner.
_START, _WAIT = 5, 120
#: Seconds for which a rank with an error leaves printing it to another one.
_SILENCE = 60
#: Characters up to which a differing value is shown in a message.
_LONGEST = 80


class LostRankError(FewshotError):
    """Another rank has died."""


@dataclass(frozen=True)
class Place:
    """This process's position in the job, as set by torchrun; by default the only process."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which writes and reports for all."""
        return self.rank == 0


def place() -> Place:
    """Read this process's position from the environment.

    Raises:
        UsageError: WORLD_SIZE is set, but not torchrun's other variables.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")  # in the order of `Place`
    if os.environ.get("WORLD_SIZE", "1") in ("", "1"):
        return Place()
    try:
        here = Place(*(int(os.environ[name]) for name in names))
        _ = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    except (KeyError, ValueError) as error:
        raise UsageError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but the environment lacks what torchrun "
            f"sets ({error}). Start with torchrun, or unset WORLD_SIZE."
        ) from None
    return here


def speaks(error: FewshotError) -> bool:
    """Return whether this process prints an error that all ranks raise: one per machine does."""
    local_rank = os.environ.get("LOCAL_RANK", "0") if "WORLD_SIZE" in os.environ else "0"
    # After a rank was lost the second one prints too, as the first may be the lost one.
    return local_rank in (("0", "1") if isinstance(error, LostRankError) else ("0",))


def let_another_speak() -> None:
    """Wait for torchrun to end this process, which happens once the rank that prints has ended.

    If this process ended first, torchrun would kill the other one before it has printed its error.
    The function returns after a minute, if the other has nothing to print.
    """
    time.sleep(_SILENCE)


def refuse_ranks(command: str) -> None:
    """Raise UsageError if a single-process command was started by torchrun."""
    if place().size > 1:
        raise UsageError(f"{command}: runs in one process. Start it without torchrun.")


def device_name(device: str) -> str:
    """Return the name of this rank's device, for `devices.pick_device`.

    Raises:
        UsageError: one GPU is named for all ranks, or there are fewer GPUs than ranks.
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
        """By default, a single process."""
        self.rank, self.size, self.first = at.rank, at.size, at.first
        self._heart = heart

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Return this rank's items, every `size`-th one."""
        return items[self.rank :: self.size]

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Sum over all ranks in place; the result is bit-identical on all."""
        if self.size > 1:
            import torch.distributed

            with self._describing_losses():
                torch.distributed.all_reduce(values)
        return values

    def any(self, value: bool) -> bool:
        """Return whether `value` is true on any rank."""
        if self.size == 1:
            return value
        import torch

        return float(self.sum(torch.tensor([float(value)]))) > 0

    def everyone(self, value: T) -> list[T]:
        """Gather a picklable value from all ranks, in rank order."""
        if self.size == 1:
            return [value]
        import torch.distributed

        values: list[Any] = [None] * self.size
        with self._describing_losses():
            torch.distributed.all_gather_object(values, value)
        return values

    def from_first(self, data: bytes) -> bytes:
        """Broadcast the first rank's bytes to all; those of other ranks are ignored."""
        if self.size == 1:
            return data
        import torch.distributed

        values = [data if self.first else b""]
        with self._describing_losses():
            torch.distributed.broadcast_object_list(values)
        return values[0]

    def together(self, work: Callable[[], T]) -> T:
        """Call `work` on all ranks; a failure on one is raised on all, with the same message."""
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
        reasons = self.everyone("" if failure is None else _describe(failure))
        if failure is not None:
            raise failure
        rank, reason = next((n, text) for n, text in enumerate(reasons) if text)
        raise FewshotError(f"Rank {rank} of {self.size}: {reason}")

    def check_same(self, facts: dict[str, Any], remedy: str) -> None:
        """Check that facts, JSON-able values by name, are the same on all ranks.

        Raises:
            UsageError: on all ranks, naming the first difference and `remedy`.
        """
        every = [json.loads(text) for text in self.everyone(plain_json.dumps(facts))]
        for rank, other in enumerate(every):
            for name, expected in every[0].items():
                value = other.get(name)
                if value != expected:
                    difference = f"{name} {value}, rank 0 has {expected}"
                    if max(len(str(value)), len(str(expected))) > _LONGEST:
                        difference = f"other {name} than rank 0"
                    raise UsageError(f"Rank {rank} of {self.size} has {difference}. {remedy}")

    @contextlib.contextmanager
    def _describing_losses(self) -> Iterator[None]:
        """Convert errors of collectives into a LostRankError that names the lost rank."""
        try:
            yield
        except RuntimeError as error:
            who = self._heart.who_is_silent() if self._heart is not None else "Another rank"
            reason = str(error).splitlines()[0].rpartition("] ")[2].partition(". This is")[0]
            raise LostRankError(
                f"{who} has died or cannot be reached ({reason}). The last checkpoint, if there "
                "is one, is whole: go on with --resume, on any number of ranks."
            ) from None


def _describe(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, FewshotError) else f"{type(error).__name__}: {text}"


@contextlib.contextmanager
def join() -> Iterator[Ranks]:
    """Connect to the other ranks of this job, if it was started by torchrun.

    Raises:
        FewshotError: the other ranks could not be reached.
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
        ranks.everyone(None)  # wait for the first rank, whose store must outlive the others
    except BaseException as error:
        heart.stop(_describe(error)[:300])
        raise
    heart.stop()
    with contextlib.suppress(RuntimeError):
        dist.destroy_process_group()
