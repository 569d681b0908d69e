"""Find duplicates among photos: identical bytes, or nearly identical fingerprints."""

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
    """Copies of one photo."""

    members: tuple[int, ...]
    """Positions of the photos, increasing."""
    exact: bool
    """Whether their bytes are identical."""


@dataclass(frozen=True)
class Copies:
    """The groups of copies that `find_copies` found."""

    across: tuple[Group, ...]
    """Groups that span several classes."""
    within: tuple[Group, ...]
    """Groups within one class; a group of near copies has only the first of identical files."""
    distinct: tuple[int, ...]
    """Number of photos of each class, counting copies once."""


def find_copies(
    paths: Sequence[Path],
    labels: Sequence[int],
    fingerprints: Fingerprints,
    rows: Sequence[int],
    classes: int,
) -> Copies:
    """Find exact and near copies.

    Only files with equal fingerprints and lengths are compared byte by byte, so few are read again.

    Args:
        paths: N photos.
        labels: N class numbers 0..K-1.
        fingerprints: of the N photos.
        rows: positions of the photos that could be read.
        classes: K.
    """
    alike: dict[bytes, list[int]] = defaultdict(list)  # rows by fingerprint
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
        for same_label in by_label.values():
            within.join(same_label)
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
    """Map each position in `groups` to the first of its group whose file has the same bytes."""
    file_of: dict[int, int] = {}
    for group in groups:
        first_with: dict[object, int] = {}
        lengths = [_length(paths[row]) if len(group) > 1 else None for row in group]
        for row, length in zip(group, lengths, strict=True):
            unique = length is None or lengths.count(length) == 1
            file_of[row] = row if unique else first_with.setdefault(_digest(paths[row], row), row)
    return file_of


def _length(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:  # removed meanwhile
        return None


def _digest(path: Path, default: object) -> object:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return default


class _Joined:
    """Disjoint sets of numbers (union-find)."""

    def __init__(self) -> None:
        self._parents: dict[int, int] = {}

    def _root(self, number: int) -> int:
        parent = self._parents.setdefault(number, number)
        while parent != number:
            self._parents[number] = self._parents[parent]  # path halving
            number, parent = parent, self._parents[parent]
        return number

    def join(self, numbers: Sequence[int]) -> None:
        root = self._root(numbers[0])
        for number in numbers[1:]:
            self._parents[self._root(number)] = root

    def groups(self) -> list[list[int]]:
        """Return the sets of two or more numbers."""
        members: dict[int, list[int]] = defaultdict(list)
        for number in list(self._parents):
            members[self._root(number)].append(number)
        return [group for group in members.values() if len(group) > 1]
