"""Read the images of an episode and replace those that cannot be read, so that a run goes on.

An unreadable image is replaced by another of its class that is not in the episode, or else left
out, as long as its class keeps an image on each side. The replacement depends on the episode's own
generator and on which images can be read, not on other episodes.
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
    """An image that could not be read, and the reason."""

    source: str
    reason: str


def read_episode(
    store: ImageStore, pool: Pool, episode: Episode, generator: Callable[[], torch.Generator]
) -> tuple[Tensor, Episode, tuple[Replaced, ...]]:
    """Read the images of an episode.

    Args:
        store: the images that the episode indexes.
        pool: the pool that it was drawn from.
        episode: the images to read.
        generator: factory of the generator of replacements; called only if needed.

    Returns:
        images: uint8 (N + Q, 3, S, S), support first.
        episode: the indices and labels of these images.
        replaced: the images that could not be read.

    Raises:
        FewshotError: a class has too few readable images left.
    """
    indices = episode.support + episode.query
    images, problems = store.read(indices)
    if not problems:
        return images, episode, ()
    random, split = generator(), len(episode.support)
    failed: dict[int, str] = {}
    left_out: set[int] = set()  # positions
    while problems:
        failed |= {indices[position]: reason for position, reason in problems.items()}
        retried: list[int] = []
        for position in problems:
            opposite = indices[split:] if position < split else indices[:split]
            candidates = [
                other
                for other in pool.others(indices[position], opposite)
                if other not in failed and other not in indices
            ]
            if candidates:
                choice = int(torch.randint(len(candidates), (), generator=random))
                indices[position] = candidates[choice]
                retried.append(position)
            else:
                left_out.add(position)
        images[retried], failures = store.read([indices[position] for position in retried])
        problems = {retried[number]: reason for number, reason in failures.items()}
    kept = [position for position in range(len(indices)) if position not in left_out]
    result = _with_images(episode, indices, kept)
    for labels in (result.support_labels, result.query_labels)[: 1 + bool(episode.query)]:
        if missing := set(range(episode.classes)) - set(labels):
            first = (episode.support_labels + episode.query_labels).index(min(missing))
            raise _too_few(store, pool, pool.class_of(indices[first]), failed)
    replaced = tuple(Replaced(str(store.paths[i]), reason) for i, reason in failed.items())
    return images[kept], result, replaced


def _with_images(episode: Episode, indices: Sequence[int], kept: Sequence[int]) -> Episode:
    """Return the episode with other images, restricted to the positions `kept`."""
    labels, split = episode.support_labels + episode.query_labels, len(episode.support)
    support = [position for position in kept if position < split]
    query = [position for position in kept if position >= split]
    return replace(
        episode,
        support=[indices[position] for position in support],
        support_labels=[labels[position] for position in support],
        query=[indices[position] for position in query],
        query_labels=[labels[position] for position in query],
    )


def _too_few(store: ImageStore, pool: Pool, number: int, failed: dict[int, str]) -> FewshotError:
    in_class = [index for index in failed if pool.class_of(index) == number]
    index = in_class[0]
    return FewshotError(
        f"{pool.name}: too few photos of class {pool.class_names[number]!r} can still be read: "
        f"{len(in_class)} failed, e.g. {store.paths[index]} ({failed[index]}). Put them back, and "
        "go on with --resume."
    )
