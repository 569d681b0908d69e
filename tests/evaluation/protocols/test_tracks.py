"""Tracks: none is on both sides of a task, and every task can be drawn."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.data.episodes import least_images
from fewshot_lite.evaluation.protocols.folders import FolderProtocol
from fewshot_lite.evaluation.protocols.options import ProtocolOptions, Span
from fewshot_lite.images.folders import scan_classes


def make(folder: Path, tracks: dict[str, list[int]]) -> Path:
    """Class folders of files that are never decoded; for each class the lengths of its tracks."""
    for name, lengths in tracks.items():
        (folder / name).mkdir(parents=True)
        for track, length in enumerate(lengths):
            for frame in range(length):
                (folder / name / f"{track:02d}_{frame:03d}.jpg").write_bytes(b"x")
    return folder


def protocol(folder: Path, *, shot: int = 2, queries: int = 2, tasks: int = 30) -> FolderProtocol:
    options = ProtocolOptions(
        ways=(Span(2, 2),),
        shots=(Span(shot, shot),),
        queries=queries,
        tasks=tasks,
        tracks=(folder.name,),
    )
    return FolderProtocol([scan_classes(folder)], options)


def test_no_track_is_on_both_sides(tmp_path: Path) -> None:
    found = protocol(make(tmp_path, {"a": [3, 4, 2], "b": [2, 3, 5]}))
    for number in range(len(found)):
        task = found.task(number)
        sides = [
            {(p.parent.name, p.stem.partition("_")[0]) for p in side if isinstance(p, Path)}
            for side in (task.support, task.query)
        ]
        assert sides[0]
        assert sides[1]
        assert not sides[0] & sides[1]
        assert len(task.support) == len(task.query) == 4


@pytest.mark.parametrize("tracks", [[3, 4, 2], [30, 12], [1, 1, 1, 9], [5], [2, 2, 2, 2, 7], []])
@pytest.mark.parametrize("queries", [1, 2, 5, 10])
def test_the_worst_order_of_tracks_is_known(tracks: list[int], queries: int) -> None:
    supports, sides = [], []
    for order in permutations(tracks):
        taken, position = 0, 0
        while taken < queries and position < len(order) - 1:
            taken, position = taken + order[position], position + 1
        supports.append(sum(tracks) - taken)
        sides.append(taken)
    support, query = least_images(tracks, queries)
    assert (query >= queries) == (min(sides) >= queries)
    if query >= queries:
        assert support == min(supports)


@pytest.mark.parametrize(
    ("lengths", "shot", "message"),
    [
        ([9], 2, "'b' has 1 tracks of 9 photos, too few for 2 queries from whole tracks"),
        ([9, 3], 4, "2 queries leave may be only 3, too few for 4 shots. Lower --shots"),
    ],
)
def test_a_class_that_could_fail_a_task_is_named(
    tmp_path: Path, lengths: list[int], shot: int, message: str
) -> None:
    with pytest.raises(FewshotError, match=message):
        protocol(make(tmp_path, {"a": [9, 9], "b": lengths}), shot=shot)


def test_names_without_tracks_and_unknown_data_sets(tmp_path: Path) -> None:
    folder = make(tmp_path / "signs", {"a": [9, 9], "b": [9, 9]})
    with pytest.raises(UsageError, match="--tracks sign: there is no such data set, only signs"):
        FolderProtocol([scan_classes(folder)], ProtocolOptions(tracks=("sign",)))
    (folder / "a" / "odd.jpg").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"odd\.jpg is not named TRACK_FRAME"):
        protocol(folder)
