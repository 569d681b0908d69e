"""Each reader on its publishers' files: labels belong to images, splits are those of VTAB."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from fewshot_lite.core.errors import FewshotError
from fewshot_lite.images.photo import load_square
from fewshot_lite.published.vtab import structured
from fewshot_lite.published.vtab.catalogue import GROUPS, TASKS, find_tasks
from fewshot_lite.published.vtab.pool import Splits
from fewshot_lite.published.vtab.stored import WholeImage
from vtab_files import (
    CLEVR_DEPTHS,
    Name,
    flat,
    kitti_line,
    write_cifar100,
    write_dmlab,
    write_dsprites,
    write_eurosat,
    write_flowers102,
    write_kitti,
    write_lists,
    write_pets,
    write_retinopathy,
    write_smallnorb,
    write_sun397,
)

Vtab = tuple[Path, dict[str, Name]]

#: Images of train, val and test that the files hold by VTAB's splits; val 0: out of train.
SIZES = {
    "caltech101": (90, 0, 9),
    "cifar100": (40, 0, 12),
    "flowers102": (15, 10, 20),
    "pets": (24, 0, 12),
    "sun397": (24, 0, 6),
    "svhn": (30, 0, 13),
    "retinopathy": (20, 5, 15),
    "eurosat": (16, 0, 4),
    "resisc45": (16, 0, 4),
    "camelyon": (12, 6, 5),
    "clevr-distance": (24, 0, 8),
    "clevr-count": (24, 0, 8),
    "dmlab": (18, 8, 7),
    "dsprites-orientation": (180, 0, 20),
    "dsprites-location": (180, 0, 20),
    "smallnorb-azimuth": (54, 36, 36),
    "smallnorb-elevation": (54, 36, 36),
    "kitti": (40, 4, 4),
}


def read(root: Path, task: str) -> Splits:
    contents = find_tasks(root)
    return next(found.splits() for found in contents.tasks if found.task.name == task)


def test_the_benchmark_has_18_tasks_in_three_groups() -> None:
    assert [sum(task.group == group for task in TASKS) for group in GROUPS] == [6, 4, 8]
    assert len({task.name for task in TASKS}) == len({task.exported for task in TASKS}) == 18


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_every_image_has_its_own_label(vtab: Vtab, task: object) -> None:
    root, names = vtab
    splits = read(root, task.name)  # type: ignore[attr-defined]
    name = names[task.name]  # type: ignore[attr-defined]
    seen = set()
    sizes = []
    for pool in (splits.train, splits.val, splits.test):
        sizes.append(0 if pool is None else len(pool))
        if pool is None:
            continue
        backwards = np.arange(len(pool))[::-1]  # in another order than the files'
        sources = pool.sources(backwards)
        for source, label in zip(sources, pool.labels[backwards], strict=True):
            assert name(load_square(source, 64)) == splits.class_names[label], str(source)
        seen |= set(sources)
        assert len(set(map(str, sources))) == len(sources)
    assert tuple(sizes) == SIZES[task.name]  # type: ignore[attr-defined]
    assert len(seen) == sum(sizes)  # no image in two splits


def test_clevr_and_kitti_ranges_are_those_of_the_published_code() -> None:
    for bounds in (structured._CLEVR_DISTANCES, structured._KITTI_DISTANCES):
        inner = [b for low, high in pairwise(bounds) for b in (low + 1e-3, (low + high) / 2, high)]
        for value in [*inner, *CLEVR_DEPTHS]:
            published = int(np.amax(np.where((np.float32(bounds) - np.float32(value)) < 0)))
            assert structured.interval(value, bounds) == published
    with pytest.raises(ValueError, match="not above"):
        structured.interval(0.0, structured._CLEVR_DISTANCES)


@pytest.mark.parametrize("depth", [8.0000001, 8.49999999, 9.0 + 4e-7])
def test_depths_are_compared_in_single_precision(depth: float) -> None:
    """As TensorFlow Datasets stores them: what rounds to a bound lies below it."""
    single, double = (
        int(np.amax(np.where(np.array(structured._CLEVR_DISTANCES, dtype) < dtype(depth))))
        for dtype in (np.float32, np.float64)
    )
    assert structured.interval(depth, structured._CLEVR_DISTANCES) == single
    assert (single != double) == (depth != 8.49999999), "the case tells the two apart"


def test_a_wide_image_is_squeezed_not_cropped(tmp_path: Path) -> None:
    pixels = np.zeros((12, 36, 3), dtype=np.uint8)
    pixels[:, :4] = 255
    from PIL import Image

    Image.fromarray(pixels).save(tmp_path / "wide.png")
    seen = load_square(WholeImage(tmp_path / "wide.png"), 36)
    assert seen[:, :2].min() > 200
    assert seen[:, 8:].max() < 50


def test_large_photos_are_reduced_and_small_ones_kept(tmp_path: Path) -> None:
    flat(tmp_path / "large.jpg", 9, size=(2000, 1000))
    assert WholeImage(tmp_path / "large.jpg").read().shape == (448, 448, 3)
    flat(tmp_path / "small.jpg", 9, size=(20, 10))
    assert WholeImage(tmp_path / "small.jpg").read().shape == (20, 20, 3)


def test_drives_of_kitti_stay_together(tmp_path: Path) -> None:
    write_kitti(tmp_path, drives=30)
    splits = read(tmp_path, "kitti")
    drives = [
        {int(Path(str(s)).stem) // 4 for s in pool.sources(np.arange(len(pool)))}
        for pool in (splits.train, splits.val, splits.test)
        if pool is not None
    ]
    assert [len(d) for d in drives] == [24, 3, 3]
    assert len(set.union(*drives)) == 30
    # As tensorflow_datasets draws them, object_detection/kitti.py.
    np.random.seed(123)
    named = sorted(f"2011_09_26_drive_{n:04d}_sync" for n in range(30))
    test = {int(n[17:21]) for n in np.random.choice(named, 3, replace=False)}
    assert drives[2] == test
    assert not splits.notes


def test_kitti_without_the_development_kit_says_so(tmp_path: Path) -> None:
    write_kitti(tmp_path, devkit=False)
    splits = read(tmp_path, "kitti")
    assert len(splits.test) == 5
    assert "frames are cut at random" in splits.notes[0]


def test_a_cut_never_changes(tmp_path: Path) -> None:
    write_eurosat(tmp_path)
    first, second = read(tmp_path, "eurosat"), read(tmp_path, "eurosat")
    whole = np.arange(4)
    assert first.test.sources(whole) == second.test.sources(whole)
    # The frozen stream: a change here changes everybody's figures.
    assert [Path(str(s)).stem for s in first.test.sources(whole)] == [
        "AnnualCrop_3",
        "AnnualCrop_1",
        "Forest_5",
        "Forest_2",
    ]


def test_svhn_lies_where_torchvision_has_it_too(vtab: Vtab, tmp_path: Path) -> None:
    for path in (vtab[0] / "svhn").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert [found.task.name for found in find_tasks(tmp_path).tasks] == ["svhn"]


def test_class_folders_and_lists_serve_any_task(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("val", 1), ("test", 2)):
        for label in (0, 1):
            for number in range(count):
                flat(tmp_path / "dmlab" / split / f"c{label}" / f"{number}.png", label)
    write_lists(tmp_path, "clevr_dist", [5, 0, 5], [1, 0])
    found = {f.task.name: f for f in find_tasks(tmp_path).tasks}
    assert {name: f.layout for name, f in found.items()} == {
        "clevr-distance": "lists",
        "dmlab": "class folders",
    }
    splits = found["dmlab"].splits()
    assert splits.class_names == ("c0", "c1")
    assert [len(p) for p in (splits.train, splits.val, splits.test) if p is not None] == [6, 2, 4]
    assert found["clevr-distance"].splits().train.labels.tolist() == [5, 0, 5]


def test_what_is_missing_is_named_with_its_source(tmp_path: Path) -> None:
    write_cifar100(tmp_path)
    (tmp_path / "cifar-100-binary/test.bin").unlink()
    contents = find_tasks(tmp_path)
    assert not contents.tasks
    assert len(contents.absent) == 17
    problem = contents.problems["cifar100"]
    assert f"{tmp_path / 'cifar-100-binary'}: lacks test.bin." in problem
    assert "cs.toronto.edu" in problem


def damage(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("task", "write", "file", "data", "reason"),
    [
        ("cifar100", write_cifar100, "cifar-100-binary/test.bin", b"\0" * 3000, "whole number"),
        ("cifar100", write_cifar100, "cifar-100-binary/train.bin", b"", "train.bin"),
        ("cifar100", write_cifar100, "cifar-100-binary/train.bin", b"\x63" * 3074, "label 99 of 4"),
        ("flowers102", write_flowers102, "flowers-102/setid.mat", b"no matrix", "damaged"),
        ("pets", write_pets, "oxford-iiit-pet/annotations/test.txt", b"Bengal_1", "damaged"),
        ("sun397", write_sun397, "SUN397/ClassName.txt", b"/z/zoo\n", "z/zoo"),
        ("kitti", write_kitti, "Kitti/raw/training/label_2/000003.txt", b"Car 1 2", "000003.txt"),
        (
            "kitti",
            write_kitti,
            "Kitti/raw/devkit_object/mapping/train_rand.txt",
            b"1,99999",
            "train_rand.txt",
        ),
        (
            "retinopathy",
            write_retinopathy,
            "diabetic-retinopathy-detection/trainLabels.csv",
            b"image,level\na,5\n",
            "a level that is not 0 to 4",
        ),
        (
            "smallnorb-azimuth",
            write_smallnorb,
            "smallnorb/smallnorb-5x01235x9x18x6x2x96x96-testing-info.mat",
            b"\x1f\x8b a gzip file",
            "not smallNORB's binary format",
        ),
        (
            "dsprites-location",
            write_dsprites,
            "dsprites/dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz",
            b"PK no archive",
            "npz",
        ),
        ("dmlab", write_dmlab, "dmlab/dmlab-test.tfrecord-00000-of-00002", b"\1" * 40, "record 1"),
    ],
)
def test_a_damaged_file_is_named(
    tmp_path: Path, task: str, write: object, file: str, data: bytes, reason: str
) -> None:
    write(tmp_path)  # type: ignore[operator]
    (tmp_path / file).write_bytes(data)
    with pytest.raises(FewshotError) as error:
        read(tmp_path, task)
    assert reason in str(error.value)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_list_with_a_label_out_of_range_is_named_with_its_line(tmp_path: Path) -> None:
    write_lists(tmp_path, "clevr_dist", [0, 6], [0])
    with pytest.raises(FewshotError, match=r"train800val200.txt, line 2: .* from 0 to 5"):
        read(tmp_path, "clevr-distance")


def test_a_class_of_the_test_folders_alone_is_named(tmp_path: Path) -> None:
    flat(tmp_path / "dmlab/train/near/1.png", 1)
    flat(tmp_path / "dmlab/test/far/1.png", 1)
    with pytest.raises(FewshotError, match=r"test/far: this class is not in"):
        read(tmp_path, "dmlab")


def test_kitti_counts_vans_and_ignores_people(tmp_path: Path) -> None:
    write_kitti(tmp_path)
    path = tmp_path / "Kitti/raw/training/label_2/000003.txt"  # no vehicle so far
    path.write_text(f"{kitti_line('Van', 8.0)}\n{kitti_line('Cyclist', 1.0)}\n")
    assert structured._kitti_label(path) == 0  # 8 m is not above 8 m
    path.write_text(f"{kitti_line('Van', 8.01)}\n{kitti_line('Cyclist', 1.0)}\n")
    assert structured._kitti_label(path) == 1


@pytest.mark.parametrize(("task", "package"), [("svhn", "scipy.io"), ("camelyon", "h5py")])
def test_a_missing_extra_is_named(
    vtab: Vtab, monkeypatch: pytest.MonkeyPatch, task: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(FewshotError, match=r"pip install 'fewshot-lite\[vtab\]'"):
        read(vtab[0], task)


def test_no_pickle_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("unpickled")

    write_dsprites(tmp_path)  # its metadata are pickled
    monkeypatch.setattr("pickle.load", refuse)
    monkeypatch.setattr("pickle.loads", refuse)
    splits = read(tmp_path, "dsprites-location")
    assert splits.test.sources(np.arange(20))
