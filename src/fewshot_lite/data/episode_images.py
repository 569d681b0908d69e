"""The images of an episode, also where some can no longer be read: a run does not end for them.

An image that fails is replaced by another of its class that the episode does not have; where there
is none it is left out, as long as its class keeps an image on each side. Which one it is depends on
the episode's own generator and on what can be read, not on what other episodes met with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fewshot_lite.core.errors import FewshotError
from fewshot_lite.data.episodes import Episode, Pool
from fewshot_lite.data.store import ImageStore


@dataclass(frozen=True)
class Replaced:
    """An image that could not be read when it was to be used."""

    source: str
    reason: str


def read_episode(
    store: ImageStore, pool: Pool, episode: Episode, generator: Callable[[], torch.Generator]
) -> tuple[Tensor, Episode, tuple[Replaced, ...]]:
    """Read the images of an episode.

    Args:
        store: the images that the episode indexes.
        pool: what it was drawn from.
        episode: which images are wanted.
        generator: makes the generator of replacements, if it comes to that.

    Returns:
        images: uint8 (N + Q, 3, S, S), support first.
        episode: the images that they are.
        replaced: those that could not be read.

    Raises:
        FewshotError: a class has too few images left that can be read.
    """
    wanted = episode.support + episode.query
    images, problems = store.read(wanted)
    if not problems:
        return images, episode, ()
    random, split = generator(), len(episode.support)
    failed: dict[int, str] = {}
    skipped: set[int] = set()  # positions
    while problems:
        failed |= {wanted[position]: reason for position, reason in problems.items()}
        again: list[int] = []
        for position in problems:
            opposite = wanted[split:] if position < split else wanted[:split]
            others = [
                other
                for other in pool.others(wanted[position], opposite)
                if other not in failed and other not in wanted
            ]
            if others:
                chosen = int(torch.randint(len(others), (), generator=random))
                wanted[position] = others[chosen]
                again.append(position)
            else:
                skipped.add(position)
        fresh, bad = store.read([wanted[position] for position in again])
        images[again] = fresh
        problems = {again[number]: reason for number, reason in bad.items()}
    kept = [position for position in range(len(wanted)) if position not in skipped]
    found = _with_images(episode, wanted, kept)
    for labels in (found.support_labels, found.query_labels)[: 1 + bool(episode.query)]:
        if missing := set(range(episode.classes)) - set(labels):
            first = (episode.support_labels + episode.query_labels).index(min(missing))
            raise _too_few(store, pool, pool.class_of(wanted[first]), failed)
    named = tuple(Replaced(str(store.paths[i]), reason) for i, reason in failed.items())
    return images[kept], found, named


def _with_images(episode: Episode, wanted: Sequence[int], kept: Sequence[int]) -> Episode:
    """The episode with other images, of which those at the positions `kept` are taken."""
    labels, split = episode.support_labels + episode.query_labels, len(episode.support)
    support = [position for position in kept if position < split]
    query = [position for position in kept if position >= split]
    return replace(
        episode,
        support=[wanted[position] for position in support],
        support_labels=[labels[position] for position in support],
        query=[wanted[position] for position in query],
        query_labels=[labels[position] for position in query],
    )


def _too_few(store: ImageStore, pool: Pool, number: int, failed: dict[int, str]) -> FewshotError:
    mine = {index: reason for index, reason in failed.items() if pool.class_of(index) == number}
    index, reason = next(iter(mine.items()))
    return FewshotError(
        f"{pool.name}: too few photos of class {pool.class_names[number]!r} can still be read: "
        f"{len(mine)} failed, e.g. {store.paths[index]} ({reason}). Put them back, and go on with "
        "--resume."
    )
