"""Folds that run at once: their order, their steps, and what ends them."""

from __future__ import annotations

import threading
from functools import partial

import pytest
import torch

from fewshot_lite.core.errors import FewshotError
from fewshot_lite.core.progress import OnDone
from fewshot_lite.personal.folds_at_once import at_once


def steps_of(fold: int, count: OnDone) -> tuple[int, bool]:
    for taken in range(1, 4):
        count(taken, 3)
    return 10 * fold, torch.is_grad_enabled()


def test_results_are_in_the_order_of_folds_and_steps_are_told_in_the_callers_thread() -> None:
    told: list[tuple[int, int]] = []
    where = set()

    def on_step(taken: int, of: int) -> None:
        told.append((taken, of))
        where.add(threading.current_thread())

    assert at_once([partial(steps_of, fold) for fold in (3, 0, 1, 2)], 3, on_step) == [
        (30, False),
        (0, False),
        (10, False),
        (20, False),
    ]
    assert told == [(taken, 12) for taken in range(1, 13)]
    assert where == {threading.current_thread()}


@pytest.mark.parametrize("threads", [1, 2, 3, 9])
def test_threads_are_shared_and_given_back(threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        seen = at_once([lambda count: torch.get_num_threads()] * 4, 1, None)
        assert seen == [max(1, threads // 4)] * 4
        assert torch.get_num_threads() == threads
        later: list[int] = []
        thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert later == [threads]
    finally:
        torch.set_num_threads(before)


def test_an_error_of_the_caller_ends_all_folds_at_their_next_step() -> None:
    taken = [0] * 4

    def endless(fold: int, count: OnDone) -> None:
        while True:
            taken[fold] += 1
            count(taken[fold], 1)

    def on_step(_: int, of: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        at_once([partial(endless, fold) for fold in range(4)], 1, on_step)
    assert not any("ThreadPool" in thread.name for thread in threading.enumerate())


def test_an_error_of_a_fold_is_raised() -> None:
    def diverges(fold: int, count: OnDone) -> int:
        if fold == 2:
            raise FewshotError("diverged")
        return fold

    with pytest.raises(FewshotError, match="diverged"):
        at_once([partial(diverges, fold) for fold in range(4)], 1, None)
