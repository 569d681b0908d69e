"""The protocol and the data sets for training, on small data sets in the true format."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.data.store import ImageStore
from fewshot_lite.evaluation.protocols.base import EvaluationProtocol, EvaluationTask
from fewshot_lite.images.photo import load_square
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.published.meta_dataset.describe import describe
from fewshot_lite.published.meta_dataset.protocol import MetaDatasetProtocol
from fewshot_lite.published.meta_dataset.reader import (
    is_meta_dataset,
    read_specs,
    scan_meta_dataset,
)
from fewshot_lite.published.tfrecord import Record
from fewshot_lite.training.meta_train import meta_train
from meta_files import hierarchy_spec, plain_spec, two_level_spec, write_data_set, write_plain
from photos import QUICK

BIRDS = [12] * 6 + [12] * 2 + [4, 6, 8, 10, 12, 14, 16]


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three data sets, one of each kind, and one whose TEST split is too small."""
    root = tmp_path_factory.mktemp("records")
    write_plain(root, "cu_birds", (6, 2, 7), BIRDS)
    two = two_level_spec("omniglot", (1, 1, 2), [5, 5, 6, 6], 4)
    write_data_set(root, two, dict.fromkeys(range(22), 4))
    leaves = {split: [f"{split}{k}" for k in range(6)] for split in ("TRAIN", "VALID", "TEST")}
    tree = hierarchy_spec("ilsvrc_2012", {s: {f"{s}-root": leaves[s]} for s in leaves}, 3)
    write_data_set(root, tree, dict.fromkeys(range(18), 3))
    write_plain(root, "dtd", (5, 1, 2), [3] * 8)
    return root


@pytest.fixture(scope="module")
def protocol(records: Path) -> MetaDatasetProtocol:
    return MetaDatasetProtocol(records, tasks=20)


def colours(images: tuple[Record, ...]) -> list[tuple[int, int]]:
    """Class id and position that the pixels show (see `write_data_set`)."""
    pixels = [load_square(image, 1)[0, 0] for image in images]
    return [(round(int(p[0]) / 5), round(int(p[1]) / 5)) for p in pixels]


def all_tasks(protocol: EvaluationProtocol) -> list[EvaluationTask]:
    return [protocol.task(number) for number in range(len(protocol))]


def test_tasks_of_every_data_set_in_turn(protocol: MetaDatasetProtocol) -> None:
    assert isinstance(protocol, EvaluationProtocol)
    assert protocol.groups == ("cu_birds", "ilsvrc_2012", "omniglot")
    assert len(protocol) == 60
    assert [task.group for task in all_tasks(protocol)] == [
        name for name in protocol.groups for _ in range(20)
    ]


def test_labels_are_what_the_pixels_show(protocol: MetaDatasetProtocol) -> None:
    task = protocol.task(3)
    shown = colours(task.support + task.query)  # type: ignore[arg-type]
    labels = task.support_labels + task.query_labels
    ids = {label: number for (number, _), label in zip(shown, labels, strict=True)}
    assert [task.class_names[label] for label in sorted(ids)] == [
        f"cu_birds {ids[label]}" for label in sorted(ids)
    ]
    assert all(ids[label] == number for (number, _), label in zip(shown, labels, strict=True))
    assert set(ids.values()) <= set(range(8, 15))  # TEST classes alone
    assert len(set(shown)) == len(shown)  # no image twice, on either side


def test_tasks_are_whole_and_within_the_rules(protocol: MetaDatasetProtocol) -> None:
    for task in all_tasks(protocol):
        ways = range(len(task.class_names))
        shots, queries = Counter(task.support_labels), Counter(task.query_labels)
        assert 5 <= len(ways) <= 7
        assert set(shots) == set(queries) == set(ways)
        assert len(set(queries.values())) == 1
        assert len(set(task.support + task.query)) == len(task.support) + len(task.query)
        files = {label: image.path for image, label in _labelled(task)}
        assert all(files[label] == image.path for image, label in _labelled(task))


def _labelled(task: EvaluationTask) -> list[tuple[Record, int]]:
    images = [image for image in task.support + task.query if isinstance(image, Record)]
    return list(zip(images, task.support_labels + task.query_labels, strict=True))


def test_images_are_drawn_from_the_whole_file(protocol: MetaDatasetProtocol) -> None:
    seen = {
        image.number
        for task in all_tasks(protocol)
        for image, _ in _labelled(task)
        if image.path.name == "14.tfrecords" and task.group == "cu_birds"
    }
    assert seen == set(range(1, 17))


def test_a_task_depends_on_seed_data_set_and_number_alone(records: Path) -> None:
    both = MetaDatasetProtocol(records, tasks=4)
    alone = MetaDatasetProtocol(records / "omniglot", tasks=9)
    assert [alone.task(n) for n in range(4)] == [both.task(8 + n) for n in range(4)]
    assert both.task(5) == MetaDatasetProtocol(records, tasks=4).task(5)
    assert both.task(5) != MetaDatasetProtocol(records, tasks=4, seed=1).task(5)
    for number in (-1, len(both)):
        with pytest.raises(IndexError):
            both.task(number)


def test_omniglot_tasks_are_of_one_alphabet(protocol: MetaDatasetProtocol) -> None:
    for task in (protocol.task(number) for number in range(40, 60)):
        assert len({name.split("-")[0] for name in task.class_names}) == 1


def test_notes_say_how_classes_are_drawn_and_what_is_missing(protocol: MetaDatasetProtocol) -> None:
    notes = "\n".join(protocol.notes)
    assert "omniglot: the classes of a task are of one superclass, as published." in notes
    assert "ilsvrc_2012: the classes of a task lie below one node of WordNet" in notes
    assert "dtd: left out." in notes
    assert "2 classes with 2 images or more" in notes
    assert "not that of MD-v2: aircraft, dtd, quickdraw, fungi, traffic_sign, mscoco of" in notes
    assert "Not among the 8 test sets of MD-v2: ilsvrc_2012." in notes


def test_wrong_arguments_are_named(records: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--tasks 0"):
        MetaDatasetProtocol(records, tasks=0)
    with pytest.raises(UsageError, match=r"test: no such split\. There are TRAIN, VALID, TEST"):
        MetaDatasetProtocol(records, split="test")
    with pytest.raises(UsageError, match="no such folder"):
        MetaDatasetProtocol(tmp_path / "none")
    with pytest.raises(FewshotError, match="no converted data sets of Meta-Dataset"):
        MetaDatasetProtocol(tmp_path)
    with pytest.raises(FewshotError, match=r"no data set with enough classes.*dtd: left out"):
        MetaDatasetProtocol(records / "dtd")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return write_plain(tmp_path / "records", "dtd", (0, 0, 5), [4] * 5)


def test_a_class_file_that_is_missing_or_cut_off_is_named_at_once(small: Path) -> None:
    path = small / "3.tfrecords"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(FewshotError, match=r"3\.tfrecords, record 4: the file ends within it"):
        MetaDatasetProtocol(small.parent)
    path.unlink()
    with pytest.raises(FewshotError, match=r"3\.tfrecords: no such file"):
        MetaDatasetProtocol(small.parent)


def test_a_wrong_number_of_records_is_named(small: Path) -> None:
    path = small / "2.tfrecords"
    path.write_bytes(path.read_bytes() + path.read_bytes())
    with pytest.raises(FewshotError, match=r"2\.tfrecords: 8 records, but .* says 4.*'dtd 2'"):
        MetaDatasetProtocol(small.parent)


def test_a_damaged_image_is_named_with_its_record_when_it_is_used(small: Path) -> None:
    path = small / "1.tfrecords"
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    protocol = MetaDatasetProtocol(small.parent, tasks=50)
    images = {image for task in all_tasks(protocol) for image, _ in _labelled(task)}
    store = ImageStore(sorted(images, key=str), 8)
    assert len(images) == 20
    assert len(store.problems) == 1
    with pytest.raises(FewshotError, match=r"1\.tfrecords, record 4: damaged, its checksum"):
        store[list(store.problems)]


def test_one_data_set_alone_is_a_root_too(small: Path) -> None:
    assert MetaDatasetProtocol(small).groups == ("dtd",)


def test_what_is_recognised(records: Path, small: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos" / "mug"
    photos.mkdir(parents=True)
    (photos / "a.jpg").write_bytes(b"")
    assert is_meta_dataset(records)
    assert is_meta_dataset(small)
    assert not is_meta_dataset(photos.parent)
    assert not is_meta_dataset(photos / "a.jpg")
    assert not is_meta_dataset(tmp_path / "none")


def test_class_files_without_a_specification_are_named(small: Path) -> None:
    (small / "dataset_spec.json").unlink()
    assert is_meta_dataset(small.parent)
    with pytest.raises(FewshotError, match=r"dtd/dataset_spec\.json: no such file"):
        read_specs(small.parent)


def test_describe_counts_and_names_problems(records: Path, small: Path, tmp_path: Path) -> None:
    summary = describe(records)
    assert summary is not None
    assert summary.format == "Meta-Dataset"
    birds = summary.data_sets[0]
    assert (birds.name, birds.classes, birds.images) == ("cu_birds", 15, sum(BIRDS))
    assert birds.splits == (("TRAIN", 6), ("VALID", 2), ("TEST", 7))
    assert [data.name for data in summary.data_sets] == read_names(records)
    assert summary.problems == ()
    for number in range(5):
        (small / f"{number}.tfrecords").write_bytes(b"")
    (small.parent / "fungi").mkdir()
    (small.parent / "fungi" / "dataset_spec.json").write_text("{")
    summary = describe(small.parent)
    assert summary is not None
    assert (
        "0.tfrecords, 1.tfrecords, 2.tfrecords and 2 more missing or empty" in summary.problems[0]
    )
    assert "fungi/dataset_spec.json: not JSON" in summary.problems[1]
    assert describe(tmp_path / "none") is None


def read_names(root: Path) -> list[str]:
    return [spec.name for spec in read_specs(root)]


def test_data_sets_for_training_hold_the_classes_of_their_split(records: Path) -> None:
    train = scan_meta_dataset(records, "TRAIN")
    assert [data.name for data in train] == ["cu_birds", "dtd", "ilsvrc_2012", "omniglot"]
    birds = train[0]
    assert birds.class_names == tuple(f"cu_birds {k}" for k in range(6))
    assert Counter(birds.labels) == dict.fromkeys(range(6), 12)
    assert colours(birds.paths[12:14]) == [(1, 0), (1, 1)]  # type: ignore[arg-type]
    valid = scan_meta_dataset(records, "VALID")[0]
    assert valid.class_names == ("cu_birds 6", "cu_birds 7")
    chosen = birds.select({"cu_birds 4"})
    assert {number for number, _ in colours(chosen.paths)} == {4}  # type: ignore[arg-type]


def test_large_classes_are_thinned_out_evenly(
    records: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fewshot_lite.published.meta_dataset.reader.MOST_IMAGES", 5)
    birds = scan_meta_dataset(records, "TRAIN")[0]
    assert Counter(birds.labels) == dict.fromkeys(range(6), 5)
    assert [position for _, position in colours(birds.paths[:5])] == [0, 2, 4, 7, 9]  # type: ignore[arg-type]


def test_a_split_without_classes_is_named(small: Path) -> None:
    with pytest.raises(FewshotError, match="none of its data sets has classes in the TRAIN split"):
        scan_meta_dataset(small.parent, "TRAIN")


@pytest.mark.slow
def test_meta_training_takes_train_classes_and_validates_on_valid_ones(
    records: Path, tmp_path: Path
) -> None:
    root = tmp_path / "records"
    write_plain(root, "cu_birds", (5, 2, 1), [8] * 5 + [10] * 2 + [2])
    write_plain(root, "fungi", (5, 0, 0), [4] * 5)
    output = tmp_path / "model.safetensors"
    config = replace(QUICK, tasks=2, validate_every=1, save_every=2)
    result = meta_train(root, output, config)
    assert result.finished
    assert set(result.validation) == {"cu_birds", "mean"}
    trained = {
        "cu_birds": [f"cu_birds {k}" for k in range(5)],
        "fungi": [f"fungi {k}" for k in range(5)],
    }
    assert MetaModel.load(output).record["data"] == trained
    lines = [json.loads(line) for line in output.with_suffix(".jsonl").read_text().splitlines()]
    assert "validation" in [line["event"] for line in lines]


def test_tracks_are_not_a_matter_of_records(records: Path, tmp_path: Path) -> None:
    config = replace(QUICK, tracks=("cu_birds",))
    with pytest.raises(UsageError, match="--tracks cu_birds: its images are not files"):
        meta_train(records, tmp_path / "model.safetensors", config)


def test_overlapping_splits_are_refused(tmp_path: Path) -> None:
    spec = plain_spec("dtd", (2, 1, 5), [4] * 8)
    spec["class_names"]["7"] = "dtd 0"
    write_data_set(tmp_path, spec, dict.fromkeys(range(8), 4))
    with pytest.raises(FewshotError, match="splits overlap: class 'dtd 0' is in TRAIN and in TEST"):
        MetaDatasetProtocol(tmp_path)
