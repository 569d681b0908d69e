"""VTAB-v2's tasks: which images, the same ones every time, and what is said about them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.evaluation.protocols.base import EvaluationProtocol, EvaluationTask
from fewshot_lite.images.photo import load_square
from fewshot_lite.published.vtab.catalogue import TASKS
from fewshot_lite.published.vtab.protocol import VtabProtocol
from vtab_files import (
    Name,
    write_cifar100,
    write_eurosat,
    write_lists,
    write_retinopathy,
    write_sun397,
)

Vtab = tuple[Path, dict[str, Name]]


def task(root: Path, name: str, **settings: int) -> EvaluationTask:
    protocol = VtabProtocol(root, **{"support": 15, **settings})
    return protocol.task(protocol.groups.index(name))


def test_all_18_tasks_in_the_order_of_tables(vtab: Vtab) -> None:
    protocol = VtabProtocol(vtab[0])
    assert isinstance(protocol, EvaluationProtocol)
    assert tuple(protocol.groups) == tuple(task.name for task in TASKS)
    assert len(protocol) == 18
    assert not any("left out" in note for note in protocol.notes)


@pytest.mark.parametrize("name", [task.name for task in TASKS])
def test_labels_belong_to_images_and_every_class_has_support(vtab: Vtab, name: str) -> None:
    root, names = vtab
    drawn = task(root, name)
    assert drawn.group == name
    assert len(drawn.support) == len(drawn.support_labels) == 15
    assert len(drawn.query) == len(drawn.query_labels) > 0
    assert set(drawn.support_labels) == set(range(len(drawn.class_names)))
    assert set(drawn.query_labels) <= set(drawn.support_labels)
    assert not set(drawn.support) & set(drawn.query)
    for sources, labels in (
        (drawn.support, drawn.support_labels),
        (drawn.query, drawn.query_labels),
    ):
        for source, label in zip(sources, labels, strict=True):
            assert names[name](load_square(source, 64)) == drawn.class_names[label]


def test_the_same_seed_gives_the_same_task_whatever_else_is_there(
    vtab: Vtab, tmp_path: Path
) -> None:
    root = vtab[0]
    alone = task(root, "sun397", seed=3)
    assert alone == task(root, "sun397", seed=3)
    assert alone.support != task(root, "sun397", seed=4).support
    assert alone.query == task(root, "sun397", seed=4).query
    (tmp_path / "SUN397").symlink_to(root / "SUN397")
    by_itself = task(tmp_path, "sun397", seed=3)
    assert [Path(str(s)).name for s in by_itself.support] == [
        Path(str(s)).name for s in alone.support
    ]


def test_a_fifth_of_the_support_is_validation_images(tmp_path: Path) -> None:
    write_retinopathy(tmp_path)
    drawn = task(tmp_path, "retinopathy", support=20)
    folders = Counter(Path(str(source)).parent.name for source in drawn.support)
    assert folders == {"train": 16, "test": 4}
    assert len(drawn.query) == 15  # the private ones: none of those in the support


def test_a_draw_has_every_class(tmp_path: Path) -> None:
    write_lists(tmp_path, "sun397", [0] * 50 + [1], [0, 1])
    assert len(task(tmp_path, "sun397", support=2).class_names) == 2


def test_the_published_lists_are_taken_in_their_order(tmp_path: Path) -> None:
    write_lists(tmp_path, "cifar", [7, 0, 7, 3], [0, 3, 7, 50, 51])
    protocol = VtabProtocol(tmp_path, support=4)
    drawn = protocol.task(0)
    assert [Path(str(source)).stem for source in drawn.support] == [f"{n:06d}" for n in range(4)]
    assert drawn.class_names == ("0", "3", "7")
    assert drawn.support_labels == (2, 0, 2, 1)
    assert drawn.query_labels == (0, 1, 2)
    assert any(
        "2 of 5 test images are left out, of 2 classes" in note and "0.6000" in note
        for note in protocol.notes
    )
    assert not any("seeded draw" in note for note in protocol.notes)


def test_another_size_of_the_support_set_is_noted(vtab: Vtab) -> None:
    protocol = VtabProtocol(vtab[0], support=15)
    assert any("15 support images" in note for note in protocol.notes)


def test_tables_show_the_groups_of_tasks(vtab: Vtab) -> None:
    sections = VtabProtocol(vtab[0]).sections
    assert [len(tasks) for tasks in sections.values()] == [6, 4, 8, 18]
    assert "kitti" in sections["structured"]


def test_tasks_that_are_not_there_are_named_and_the_mean_is_incomplete(tmp_path: Path) -> None:
    write_eurosat(tmp_path)
    write_cifar100(tmp_path)
    (tmp_path / "cifar-100-binary/train.bin").unlink()
    protocol = VtabProtocol(tmp_path, support=10)
    assert protocol.groups == ("eurosat",)
    assert protocol.notes[0].startswith("17 of 18 tasks are left out (caltech101, cifar100, ")
    assert "incomplete" in protocol.notes[0]
    assert "lacks train.bin" in protocol.notes[1]
    protocol.task(0)
    assert any(note.startswith("eurosat: the publishers give no splits") for note in protocol.notes)


def test_too_few_images_for_the_support_are_named(tmp_path: Path) -> None:
    write_sun397(tmp_path)
    protocol = VtabProtocol(tmp_path)
    with pytest.raises(FewshotError, match=r"SUN397: 24 images where sun397 takes 1,000"):
        protocol.task(0)


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        VtabProtocol(tmp_path / "nowhere")
    with pytest.raises(FewshotError, match="none of VTAB-v2's 18 tasks"):
        VtabProtocol(tmp_path)
