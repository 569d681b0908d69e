"""Several processes that share out the tasks of a comparison: `torchrun -m fewshot_lite evaluate`.

    torchrun --nproc-per-node 2 -m fewshot_lite evaluate default cosine ./images --output log.jsonl

Each holds the models and takes every so many-th task; the first one prints and writes. Only scores
travel, so it is gloo whatever the device.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from fewshot_lite.errors import FewshotError, UsageError

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process among those of a job; alone unless torchrun started it."""

    number: int = 0
    count: int = 1
    local: int = 0
    """Its number on this machine."""

    @property
    def first(self) -> bool:
        """Whether this one prints and writes."""
        return self.number == 0

    def everyone(self, value: T) -> list[T]:
        """The values of all, in order; each waits for the others.

        Raises:
            FewshotError: another one ended.
        """
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        try:
            dist.all_gather_object(values, value)
        except RuntimeError:
            raise FewshotError(
                f"Rank {self.number}: another process of this job ended, or cannot be reached any "
                "more. Its own message says why."
            ) from None
        return values

    def device(self, name: str) -> str:
        """The device of this process: ranks of one machine have a GPU each, where there are any."""
        if self.count > 1 and name in ("auto", "cuda") and torch.cuda.is_available():
            return f"cuda:{self.local % torch.cuda.device_count()}"
        return name


@contextlib.contextmanager
def join_ranks() -> Iterator[Ranks]:
    """Meet the other processes that torchrun started; there are none without it.

    Raises:
        UsageError: torchrun's variables do not make sense.
        FewshotError: the others do not come.
    """
    count = _number("WORLD_SIZE", 1)
    if count == 1:
        yield Ranks()
        return
    ranks = Ranks(_number("RANK", -1), count, _number("LOCAL_RANK", 0))
    try:
        dist.init_process_group("gloo", rank=ranks.number, world_size=count)
    except (ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise FewshotError(
            f"WORLD_SIZE={count}: the processes of this job did not meet ({reason}). Start them "
            "with torchrun."
        ) from None
    try:
        yield ranks
    finally:
        dist.destroy_process_group()


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"{name}={text}: must be a number. Start with torchrun.") from None
