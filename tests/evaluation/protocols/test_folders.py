"""Tasks from folders: which images they hold, and what is said where they cannot be drawn."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.evaluation.protocols.base import EvaluationProtocol
from fewshot_lite.evaluation.protocols.folders import FolderProtocol
from fewshot_lite.evaluation.protocols.options import ProtocolOptions, Span, check_pair, parse_spans
from fewshot_lite.images.folders import scan_classes, scan_collection
from fewshot_lite.published.registry import open_protocol, recognise


def make(folder: Path, **counts: int) -> Path:
    """Class folders of files that are never decoded."""
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for i in range(count):
            (folder / name / f"{i:02d}.jpg").write_bytes(b"x")
    return folder


def options(**changes: object) -> ProtocolOptions:
    values = {"ways": (Span(3, 3),), "shots": (Span(2, 2),), "queries": 2, "tasks": 4}
    return ProtocolOptions(**{**values, **changes})  # type: ignore[arg-type]


def test_tasks_are_balanced_and_no_image_is_on_both_sides(tmp_path: Path) -> None:
    protocol = FolderProtocol([scan_classes(make(tmp_path, a=4, b=9, c=5, d=6))], options())
    assert isinstance(protocol, EvaluationProtocol)
    assert len(protocol) == 4
    for number in range(4):
        task = protocol.task(number)
        assert task.group == f"{tmp_path.name}, 3-way 2-shot"
        assert task.support_labels == (0, 0, 1, 1, 2, 2) == task.query_labels
        assert not set(task.support) & set(task.query)
        for sources, labels in (
            (task.support, task.support_labels),
            (task.query, task.query_labels),
        ):
            for source, label in zip(sources, labels, strict=True):
                assert isinstance(source, Path)
                assert source.parent.name == task.class_names[label]


def test_the_first_tasks_do_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    folders = [scan_classes(make(tmp_path, a=8, b=8, c=8, d=8))]
    few, many, other = (
        FolderProtocol(folders, options(tasks=n, seed=s)) for n, s in ((3, 0), (9, 0), (3, 1))
    )
    assert [few.task(i) for i in range(3)] == [many.task(i) for i in range(3)]
    assert few.task(0) != few.task(1)
    assert few.task(0) != other.task(0)


def test_ranges_are_drawn_from_for_each_task(tmp_path: Path) -> None:
    folder = make(tmp_path, a=9, b=9, c=9, d=9)
    protocol = FolderProtocol(
        [scan_classes(folder)], options(ways=(Span(2, 4),), shots=(Span(1, 5),), tasks=40)
    )
    tasks = [protocol.task(i) for i in range(40)]
    assert {len(task.class_names) for task in tasks} == {2, 3, 4}
    shots = [len(task.support) / len(task.class_names) for task in tasks]
    assert set(shots) == {1, 2, 3, 4, 5}


def test_each_data_set_way_and_shot_is_a_group_and_ways_are_lowered_with_a_note(
    tmp_path: Path,
) -> None:
    make(tmp_path / "many", a=6, b=6, c=6)
    make(tmp_path / "pair", x=6, y=6)
    protocol = FolderProtocol(
        scan_collection(tmp_path), options(shots=(Span(1, 1), Span(3, 3)), tasks=2)
    )
    assert protocol.groups == [
        "many, 3-way 1-shot",
        "pair, 2-way 1-shot",
        "many, 3-way 3-shot",
        "pair, 2-way 3-shot",
    ]
    assert protocol.sections["all, 3-way 3-shot"] == protocol.groups[2:]
    assert protocol.notes == ["pair: 2 classes, so its tasks are 2-way, not 3-way."]
    assert [protocol.task(i).group for i in range(0, 8, 2)] == protocol.groups
    assert len(protocol.task(2).class_names) == 2


def test_photos_that_are_in_both_folders_are_told(tmp_path: Path) -> None:
    one, two = make(tmp_path / "day", a=3, b=3), make(tmp_path / "night", a=3, b=3)
    for number, path in enumerate(sorted(two.glob("*/*"))):
        path.write_bytes(b"y%d" % number)  # as long as those of the other folder, and other bytes
    for number, path in enumerate(sorted(one.glob("*/*"))):
        path.write_bytes(b"z%d" % number)
    ways = {"ways": (Span(2, 2),)}
    assert not open_protocol([one], options(**ways), query=two).notes
    (two / "b" / "02.jpg").write_bytes((one / "a" / "01.jpg").read_bytes())
    (note,) = open_protocol([one], options(**ways), query=two).notes
    assert note.startswith("1 of the 6 photos of --query are in --support too, e.g. ")
    assert str(two / "b" / "02.jpg") in note


def test_a_benchmark_and_a_pair_of_folders_are_alone(tmp_path: Path) -> None:
    one, two = make(tmp_path / "day", a=3, b=3), make(tmp_path / "night", a=3, b=3)
    with pytest.raises(UsageError, match=r"day: ORBIT, .* Give it alone"):
        open_protocol([one, two], options(), kind="orbit")
    with pytest.raises(UsageError, match=r"day: goes with no other folder"):
        open_protocol([one, two], options(), query=two)


def test_support_and_query_come_from_the_folders_named(tmp_path: Path) -> None:
    one, two = make(tmp_path / "day", a=3, b=3, c=3), make(tmp_path / "night", a=2, b=2, c=2)
    protocol = open_protocol([one], options(), query=two)
    for number in range(4):
        task = protocol.task(number)
        assert {p.parts[-3] for p in task.support if isinstance(p, Path)} == {"day"}
        assert {p.parts[-3] for p in task.query if isinstance(p, Path)} == {"night"}
        for source, label in zip(task.query, task.query_labels, strict=True):
            assert isinstance(source, Path)
            assert source.parent.name == task.class_names[label]
    assert protocol.groups == ["day → night, 3-way 2-shot"]


def test_the_folder_that_has_too_few_is_named(tmp_path: Path) -> None:
    many, few = make(tmp_path / "many", a=9, b=9), make(tmp_path / "few", a=1, b=1)
    with pytest.raises(FewshotError, match=r"few: class 'a' has 1 readable photos for 2 queries"):
        open_protocol([many], options(), query=few)
    with pytest.raises(FewshotError, match=r"few: class 'a' has 1 .*, too few for 2 shots"):
        open_protocol([few], options(), query=many)


def test_unreadable_photos_are_left_out_and_listed(tmp_path: Path) -> None:
    folder = make(tmp_path, a=5, b=5, c=5)
    bad = folder / "b" / "01.jpg"
    protocol = FolderProtocol(
        [scan_classes(folder)],
        options(tasks=30),
        find_unreadable=lambda sources: {bad: "truncated"} if bad in sources else {},
    )
    assert protocol.unreadable == {bad: "truncated"}
    for number in range(30):
        task = protocol.task(number)
        assert bad not in (*task.support, *task.query)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"a": 9, "b": 3, "c": 9}, r"class 'b' has 3 .* 2 shots and 2 queries\. Lower"),
        ({"a": 9, "b": 1, "c": 9}, "class 'b' has 1 .* too few for 2 shots"),
        ({"a": 9}, "one class only"),
    ],
)
def test_too_few_images_are_named_with_the_remedy(
    tmp_path: Path, counts: dict[str, int], message: str
) -> None:
    folder = scan_classes(make(tmp_path, **counts))
    with pytest.raises(FewshotError, match=message):
        FolderProtocol([folder], options())


def test_folders_of_other_classes_are_refused_by_name(tmp_path: Path) -> None:
    one, two = make(tmp_path / "A", a=5, b=5, mug=5), make(tmp_path / "B", a=5, b=5, cup=5)
    with pytest.raises(FewshotError, match=r"A alone has 'mug'.*B alone has 'cup'"):
        open_protocol([one], options(), query=two)


def test_support_needs_query_and_another_folder(tmp_path: Path) -> None:
    assert not check_pair(None, None)
    assert check_pair(tmp_path / "a", tmp_path / "b")
    with pytest.raises(UsageError, match="--query: needs --support"):
        check_pair(None, tmp_path)
    with pytest.raises(UsageError, match="both are"):
        check_pair(tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("text", "spans"),
    [("5", [(5, 5)]), ("1,5", [(1, 1), (5, 5)]), ("1-10", [(1, 10)]), ("2,3-4", [(2, 2), (3, 4)])],
)
def test_numbers_and_ranges(text: str, spans: list[tuple[int, int]]) -> None:
    assert [(s.low, s.high) for s in parse_spans("--shots", text, least=1)] == spans


@pytest.mark.parametrize("text", ["", "a", "0", "5-1", "1,,2", "-3", "1-2-3"])
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=rf"^--shots {re.escape(text)}: "):
        parse_spans("--shots", text, least=1)


def test_plain_folders_are_recognised_as_such(tmp_path: Path) -> None:
    folder = make(tmp_path, a=5, b=5, c=5)
    assert recognise(folder) == "folder"
    assert isinstance(open_protocol([folder], options()), FolderProtocol)
