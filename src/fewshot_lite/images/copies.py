"""Copies among the photos of a folder: the same bytes, or fingerprints that are nearly the same."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fewshot_lite.images.fingerprints import Fingerprints, similar_pairs


@dataclass(frozen=True)
class Group:
    """Photos that are one, by their positions in increasing order."""

    members: tuple[int, ...]
    exact: bool
    """They are the same bytes."""


@dataclass(frozen=True)
class Copies:
    """The groups of copies that `find_copies` found."""

    across: tuple[Group, ...]
    """Photos that have a copy in another class, together with it."""
    within: tuple[Group, ...]
    """Photos of one class each; of those with the same bytes, near copies name the first alone."""
    distinct: tuple[int, ...]
    """Photos of each class, copies of one another counted once."""


def find_copies(
    paths: Sequence[Path],
    labels: Sequence[int],
    fingerprints: Fingerprints,
    rows: Sequence[int],
    classes: int,
) -> Copies:
    """Find exact and near copies.

    Bytes are compared of files alone that look alike and are of one length, so hardly any file is
    read again.

    Args:
        paths: N photos.
        labels: N class numbers 0..K-1.
        fingerprints: of the N photos.
        rows: which of them could be read.
        classes: K.
    """
    alike: dict[bytes, list[int]] = defaultdict(list)  # what looks the same in every pixel
    for row in rows:
        alike[fingerprints.key(row)].append(row)
    by_first = {group[0]: group for group in alike.values()}
    file_of = _files(paths, by_first.values())
    first = np.array(sorted(by_first), dtype=np.int64)
    edges = [by_first[a] + by_first[b] for a, b, _ in similar_pairs(fingerprints, first)]
    across, within = _Joined(), _Joined()
    for members in [*by_first.values(), *edges]:
        by_label: dict[int, list[int]] = defaultdict(list)
        for row in members:
            by_label[labels[row]].append(row)
        for own in by_label.values():
            within.join(own)
        if len(by_label) > 1:
            across.join(members)

    def group(members: list[int]) -> Group:
        return Group(tuple(sorted(members)), len({file_of[row] for row in members}) == 1)

    distinct = [0] * classes
    for row in rows:
        distinct[labels[row]] += 1
    groups_within: list[Group] = []
    for members in within.groups():
        distinct[labels[members[0]]] -= len(members) - 1
        same: dict[int, list[int]] = defaultdict(list)
        for row in sorted(members):
            same[file_of[row]].append(row)
        groups_within += [group(rows_) for rows_ in same.values() if len(rows_) > 1]
        if len(same) > 1:
            groups_within.append(group([rows_[0] for rows_ in same.values()]))
    groups_across = [group(members) for members in across.groups()]
    return Copies(
        tuple(sorted(groups_across, key=lambda g: g.members)),
        tuple(sorted(groups_within, key=lambda g: (not g.exact, g.members))),
        tuple(distinct),
    )


def _files(paths: Sequence[Path], groups: Iterable[Sequence[int]]) -> dict[int, int]:
    """Position -> the first position whose file has the same bytes."""
    file_of: dict[int, int] = {}
    for group in groups:
        seen: dict[object, int] = {}
        lengths = [_length(paths[row]) if len(group) > 1 else None for row in group]
        for row, length in zip(group, lengths, strict=True):
            alone = length is None or lengths.count(length) == 1
            file_of[row] = row if alone else seen.setdefault(_digest(paths[row], row), row)
    return file_of


def _length(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:  # gone since it was read
        return None


def _digest(path: Path, otherwise: object) -> object:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return otherwise


class _Joined:
    """Disjoint sets of numbers (union-find)."""

    def __init__(self) -> None:
        self._above: dict[int, int] = {}

    def _top(self, number: int) -> int:
        above = self._above.setdefault(number, number)
        while above != number:
            self._above[number] = self._above[above]  # halves the way for the next to come
            number, above = above, self._above[above]
        return number

    def join(self, numbers: Sequence[int]) -> None:
        top = self._top(numbers[0])
        for number in numbers[1:]:
            self._above[self._top(number)] = top

    def groups(self) -> list[list[int]]:
        """The sets of two and more."""
        found: dict[int, list[int]] = defaultdict(list)
        for number in list(self._above):
            found[self._top(number)].append(number)
        return [members for members in found.values() if len(members) > 1]
