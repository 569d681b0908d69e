"""Tasks from folders: of one data set at a time, or with support and query from two folders.

Episodes are drawn by `data.episodes`: classes first, then images of each. Way and shot are fixed,
or drawn for each task from a range. Each task has its own random generator, so that the first tasks
are the same however many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch

from fewshot_lite.core.errors import FewshotError
from fewshot_lite.core.files import sha256
from fewshot_lite.core.random_streams import Stream, generator, integer, shuffled
from fewshot_lite.core.text import some_of
from fewshot_lite.data.episodes import Pool, sample_fixed_episode
from fewshot_lite.evaluation.protocols.base import EvaluationProtocol, EvaluationTask
from fewshot_lite.evaluation.protocols.options import QUERIES, SHOTS, WAYS, ProtocolOptions, Span
from fewshot_lite.evaluation.protocols.tracks import check_track_names, check_tracks
from fewshot_lite.images.folders import ImageFolder
from fewshot_lite.images.photo import Source

#: The default number of tasks of each group, that of Meta-Dataset.
TASKS = 600

#: Returns the sources that cannot be read, with reasons.
FindUnreadable = Callable[[Sequence[Source]], Mapping[Source, str]]


def assume_readable(sources: Sequence[Source]) -> Mapping[Source, str]:
    """Take all photos to be readable, without reading them."""
    return {}


class _DataSet(Protocol):
    """Images that tasks can be drawn from."""

    name: str
    root: Path
    """The folder of the support images."""
    query_root: Path
    """The folder of the query images."""
    class_names: tuple[str, ...]

    def counts(self) -> list[tuple[int, int, int]]:
        """Return for each class the images for the support, for queries, for both together."""
        ...

    def draw(self, way: int, shot: int, queries: int, random: torch.Generator) -> EvaluationTask:
        """Draw a task with an empty group."""
        ...


@dataclass(frozen=True)
class _Group:
    name: str
    section: str
    data: _DataSet
    way: Span
    shot: Span


class FolderProtocol(EvaluationProtocol):
    """Tasks of image folders, for each data set, way and shot in turn."""

    name = "folders"

    def __init__(
        self,
        folders: Sequence[ImageFolder],
        options: ProtocolOptions,
        *,
        query: ImageFolder | None = None,
        find_unreadable: FindUnreadable = assume_readable,
    ) -> None:
        """Check that every task can be drawn.

        Args:
            folders: the data sets, as returned by `scan_classes` or `scan_collection`.
            query: the folder of the queries, if another one; then `folders` has one entry.
            find_unreadable: the images that it returns are left out, and kept in `unreadable`.

        Raises:
            UsageError: `options.tracks` names another data set, or one whose files have no tracks.
            FewshotError: too few classes, a class with too few images for shots and queries, or
                two folders whose classes differ.
        """
        self._notes: list[str] = []
        self.classes = {f.name: f.class_names for f in folders}
        self._seed, self._queries = options.seed, options.queries or QUERIES
        self._tasks = options.tasks or TASKS
        check_track_names(options.tracks, folders)
        paths = [path for folder in folders for path in folder.paths]
        self.unreadable = find_unreadable([*paths, *(query.paths if query else ())])
        data: list[_DataSet] = []
        if query is None:
            tracks = options.tracks
            data += [_Single(f, self.unreadable, tracks=f.name in tracks) for f in folders]
        else:
            data.append(_Pair(folders[0], query, self.unreadable))
            self._notes += _in_both(folders[0], query)
        self._groups = [
            self._group(data_set, way, shot)
            for way in options.ways or WAYS
            for shot in options.shots or SHOTS
            for data_set in data
        ]

    @property
    def groups(self) -> list[str]:
        """The groups: a data set, way and shot each."""
        return [group.name for group in self._groups]

    @property
    def notes(self) -> Sequence[str]:
        """Notes on ways that were lowered, and photos in both folders."""
        return self._notes

    @property
    def sections(self) -> dict[str, list[str]]:
        """The groups of each way (as asked for) and shot, which tables show together."""
        sections: dict[str, list[str]] = {}
        for group in self._groups:
            sections.setdefault(group.section, []).append(group.name)
        return sections

    def __len__(self) -> int:
        return len(self._groups) * self._tasks

    def task(self, number: int) -> EvaluationTask:
        """Return a task; the groups follow each other."""
        group = self._groups[number // self._tasks]
        seed, local = self._seed, number % self._tasks
        shapes = generator(seed, Stream.FOLDER_SHAPES, local)
        way, shot = (integer(span.low, span.high, shapes) for span in (group.way, group.shot))
        random = generator(seed, Stream.FOLDER_TASKS, local)
        return replace(group.data.draw(way, shot, self._queries, random), group=group.name)

    def _group(self, data: _DataSet, way: Span, shot: Span) -> _Group:
        """Return a group after checking that its tasks can be drawn; lower too large ways."""
        classes = len(data.class_names)
        if classes < 2:
            raise FewshotError(
                f"{data.root}: one class only, so there is nothing to tell apart. Add a folder of "
                "something else."
            )
        lowered = Span(min(way.low, classes), min(way.high, classes))
        if lowered != way:
            note = f"{data.name}: {classes} classes, so its tasks are {lowered}-way, not {way}-way."
            self._notes += [] if note in self._notes else [note]
        _check_counts(data, shot, self._queries)
        if isinstance(data, _Single):
            data.check_tracks(shot.high, self._queries)
        name, section = f"{data.name}, {lowered}-way {shot}-shot", f"all, {way}-way {shot}-shot"
        return _Group(name, section, data, lowered, shot)


_REMEDY = "Lower --shots or --queries, or add photos."


def _check_counts(data: _DataSet, shot: Span, queries: int) -> None:
    """Refuse a class from which a task could not be drawn."""
    for name, (support, query, both) in zip(data.class_names, data.counts(), strict=True):
        needed = f"{shot.high} shots and {queries} queries"
        for has, needs, what, where in (
            (support, shot.high, f", too few for {shot.high} shots", data.root),
            (query, queries, f" for {queries} queries", data.query_root),
            (both, shot.high + queries, f", too few for {needed}", data.root),
        ):
            if has < needs:
                raise FewshotError(
                    f"{where}: class {name!r} has {has} readable photos{what}. {_REMEDY}"
                )


class _Single:
    """One folder; no image, and no track if files have tracks, is on both sides of a task."""

    def __init__(
        self, folder: ImageFolder, unreadable: Mapping[Source, str], *, tracks: bool
    ) -> None:
        self.name, self.root, self.query_root = folder.name, folder.root, folder.root
        self.class_names = folder.class_names
        self._folder, self._tracks = folder, tracks
        unreadable_rows = [i for i, path in enumerate(folder.paths) if path in unreadable]
        self._pool = Pool(folder, unreadable=unreadable_rows, tracks=tracks)
        self._kept = set(range(len(folder.paths))).difference(unreadable_rows)

    def counts(self) -> list[tuple[int, int, int]]:
        counts = [len(self._kept.intersection(i)) for i in self._folder.indices_by_class()]
        return [(count, count, count) for count in counts]

    def check_tracks(self, shot: int, queries: int) -> None:
        """Raise FewshotError if whole tracks could leave too few images on one side."""
        if self._tracks:
            check_tracks(self._folder, self._kept, shot, queries, _REMEDY)

    def draw(self, way: int, shot: int, queries: int, random: torch.Generator) -> EvaluationTask:
        episode = sample_fixed_episode(self._pool, way, shot, queries, random)
        paths, labels = self._folder.paths, self._folder.labels
        support = list(zip(episode.support, episode.support_labels, strict=True))
        query = zip(episode.query, episode.query_labels, strict=True)
        names = {label: self.class_names[labels[index]] for index, label in support}
        return EvaluationTask.of(
            "",
            (names[k] for k in range(episode.classes)),
            [(paths[i], label) for i, label in support],
            [(paths[i], label) for i, label in query],
        )


class _Pair:
    """Two folders of the same classes, such as photos taken under different conditions."""

    def __init__(
        self, support: ImageFolder, query: ImageFolder, unreadable: Mapping[Source, str]
    ) -> None:
        _check_same_classes(support, query)
        self.name = f"{support.name} → {query.name}"
        self.root, self.query_root = support.root, query.root
        self.class_names = support.class_names
        self._support = _by_class(support, unreadable)
        self._query = _by_class(query, unreadable)

    def counts(self) -> list[tuple[int, int, int]]:
        pairs = zip(self._support, self._query, strict=True)
        return [(len(s), len(q), len(s) + len(q)) for s, q in pairs]

    def draw(self, way: int, shot: int, queries: int, random: torch.Generator) -> EvaluationTask:
        order = shuffled(range(len(self.class_names)), random, way)
        support, query = (
            [(path, k) for k, c in enumerate(order) for path in shuffled(side[c], random, number)]
            for side, number in ((self._support, shot), (self._query, queries))
        )
        return EvaluationTask.of("", (self.class_names[c] for c in order), support, query)


def _by_class(folder: ImageFolder, unreadable: Mapping[Source, str]) -> list[list[Path]]:
    paths = [[folder.paths[i] for i in indices] for indices in folder.indices_by_class()]
    return [[path for path in part if path not in unreadable] for part in paths]


def _in_both(support: ImageFolder, query: ImageFolder) -> list[str]:
    """Return a note if query files are byte-for-byte copies of support files."""
    sizes = {path.stat().st_size for path in support.paths}
    same_size = [path for path in query.paths if path.stat().st_size in sizes]
    shared_sizes = {path.stat().st_size for path in same_size}
    hashes = {sha256(path) for path in support.paths if path.stat().st_size in shared_sizes}
    copies = [path for path in same_size if sha256(path) in hashes]
    if not copies:
        return []
    return [
        f"{len(copies)} of the {len(query.paths)} photos of --query are in --support too, e.g. "
        f"{copies[0]}: a task may be asked about a photo that it was shown."
    ]


def _check_same_classes(support: ImageFolder, query: ImageFolder) -> None:
    only_support = sorted(set(support.class_names) - set(query.class_names))
    only_query = sorted(set(query.class_names) - set(support.class_names))
    if only_support or only_query:
        differences = [
            f"{folder.root} alone has {some_of(names)}"
            for folder, names in ((support, only_support), (query, only_query))
            if names
        ]
        raise FewshotError(
            f"--support and --query: the class folders differ: {'; '.join(differences)}. Name "
            "them alike."
        )
