"""Random streams: every use of a seed draws numbers of its own."""

from __future__ import annotations

import torch

from fewshot_lite.core.random_streams import Stream, generator


def first(seed: int, stream: Stream, *numbers: int) -> int:
    return int(torch.randint(2**62, (), generator=generator(seed, stream, *numbers)))


def test_streams_differ_in_seed_name_and_every_number_and_repeat() -> None:
    keys = [(seed, stream) for seed in (-1, 0, 1) for stream in Stream]
    drawn = {first(*key, *numbers) for key in keys for numbers in ((), (0,), (1,), (0, 1), (1, 0))}
    assert len(drawn) == 5 * len(keys)
    assert first(3, Stream.ORBIT_TASKS, 7) == first(3, Stream.ORBIT_TASKS, 7)


def test_a_stream_draws_what_it_drew_when_figures_were_published() -> None:
    drawn = torch.randperm(10, generator=generator(0, Stream.FOLDER_TASKS, 1)).tolist()
    assert drawn == [8, 3, 5, 6, 0, 2, 4, 9, 7, 1]
