"""Specifications: the three kinds read as published, and each contradiction named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fewshot_lite.core.errors import FewshotError
from fewshot_lite.published.meta_dataset.spec import read_spec
from meta_files import hierarchy_spec, plain_spec, two_level_spec, write_spec

#: classes_per_superclass of the published omniglot_dataset_spec.json.
OMNIGLOT = [29, 26, 41, 40, 24, 46, 26, 34, 33, 22, 26, 43, 24, 48, 22, 52, 47, 40, 26, 40, 41, 33]
OMNIGLOT += [42, 23, 55, 14, 14, 16, 17, 20, 20, 26, 26, 26, 26, 26, 45, 45, 41, 26, 47, 40, 30, 45]
OMNIGLOT += [46, 28, 23, 25, 42, 26]

#: "ray" lies below two nodes, as in WordNet; ids are dealt out split by split.
GRAPHS = {
    "TRAIN": {"n0": ["n1", "n2"], "n1": ["n10", "n11", "n12"], "n2": ["n12", "n13"]},
    "VALID": {"n3": ["n14", "n15"]},
    "TEST": {"n4": ["n16", "n17"]},
}


def test_a_plain_data_set(tmp_path: Path) -> None:
    spec = read_spec(write_spec(tmp_path / "birds", plain_spec("x", (3, 1, 2), [9, 8, 7, 6, 5, 4])))
    assert spec.name == "birds"  # the folder's: what people see
    assert spec.splits == {"TRAIN": range(3), "VALID": range(3, 4), "TEST": range(4, 6)}
    assert spec.images == {0: 9, 1: 8, 2: 7, 3: 6, 4: 5, 5: 4}
    assert spec.class_names[5] == "x 5"
    assert spec.class_file(5) == tmp_path / "birds" / "5.tfrecords"
    assert spec.families is None


def test_numbers_as_class_names_as_in_traffic_sign(tmp_path: Path) -> None:
    content = plain_spec("traffic_sign", (0, 0, 3), [5, 5, 5])
    content["class_names"] = {"0": 0, "1": 1, "2": 2}
    spec = read_spec(write_spec(tmp_path / "traffic_sign", content))
    assert spec.splits == {"TRAIN": range(0), "VALID": range(0), "TEST": range(3)}
    assert spec.class_names == {0: "0", 1: "1", 2: "2"}


def test_omniglot_is_split_by_alphabets_as_published(tmp_path: Path) -> None:
    content = two_level_spec("omniglot", (25, 5, 20), OMNIGLOT, images=20)
    spec = read_spec(write_spec(tmp_path / "omniglot", content))
    sizes = [len(numbers) for numbers in spec.splits.values()]
    assert sizes == [883, 81, 659]  # Triantafillou et al. 2020, appendix A.1
    assert spec.families is not None
    assert [len(family) for family in spec.families["VALID"]] == [14, 14, 16, 17, 20]
    for split, families in spec.families.items():
        assert [number for family in families for number in family] == list(spec.splits[split])
    named = {spec.class_names[number].split("-")[0] for number in spec.families["TEST"][0]}
    assert named == {"a30"}


def test_a_hierarchy_gives_the_leaves_below_each_node(tmp_path: Path) -> None:
    spec = read_spec(write_spec(tmp_path / "imagenet", hierarchy_spec("imagenet", GRAPHS, 7)))
    assert spec.splits == {"TRAIN": range(4), "VALID": range(4, 6), "TEST": range(6, 8)}
    assert spec.families == {
        "TRAIN": ((0, 1, 2, 3), (0, 1, 2), (2, 3)),
        "VALID": ((4, 5),),
        "TEST": ((6, 7),),
    }
    assert spec.images == dict.fromkeys(range(8), 7)
    assert spec.class_names[2] == "n12"


def test_a_split_of_a_hierarchy_may_be_empty_as_in_ilsvrc_2012_v2(tmp_path: Path) -> None:
    content = hierarchy_spec("v2", {**GRAPHS, "VALID": {}, "TEST": {}}, 7)
    spec = read_spec(write_spec(tmp_path / "v2", content))
    assert [len(numbers) for numbers in spec.splits.values()] == [4, 0, 0]


def test_a_deep_hierarchy_needs_no_deep_stack(tmp_path: Path) -> None:
    chain = {f"n{k:05}": [f"n{k + 1:05}", f"m{k:05}"] for k in range(1100)}
    content = hierarchy_spec("deep", {"TRAIN": {}, "VALID": {}, "TEST": chain}, 2)
    spec = read_spec(write_spec(tmp_path / "deep", content))
    assert spec.families is not None
    assert {len(family) for family in spec.families["TEST"]} == set(range(2, 1102))


def test_a_missing_file_and_one_of_the_old_kind(tmp_path: Path) -> None:
    with pytest.raises(FewshotError, match=r"dataset_spec\.json: no such file\. Copy it from"):
        read_spec(tmp_path)
    (tmp_path / "dataset_spec.pkl").write_bytes(b"cposix\nsystem\n(S'touch owned'\ntR.")
    with pytest.raises(FewshotError, match=r"dataset_spec\.pkl: .*convert_from_pkl=True"):
        read_spec(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"__class__": "Split"}', "[" * 100_000])
def test_what_is_no_specification_says_so(tmp_path: Path, text: str) -> None:
    (tmp_path / "dataset_spec.json").write_text(text)
    with pytest.raises(FewshotError, match=r"dataset_spec\.json: not (JSON|a Meta-Dataset spec)"):
        read_spec(tmp_path)


def _drop(*keys: str) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        for key in keys[:-1]:
            content = content[key]
        del content[keys[-1]]

    return change


def _put(value: Any, *keys: str) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


PLAIN = plain_spec("plain", (2, 1, 1), [5] * 4)
TWO = two_level_spec("two", (1, 1, 1), [2, 2, 2], 5)
TREE = hierarchy_spec("tree", GRAPHS, 5)


@pytest.mark.parametrize(
    ("content", "change", "problem"),
    [
        (PLAIN, _drop("classes_per_split", "VALID"), "no split VALID"),
        (TWO, _drop("superclasses_per_split", "TEST"), "no split TEST"),
        (TREE, _drop("split_subgraphs", "TRAIN"), "no split TRAIN"),
        (PLAIN, _drop("images_per_class"), "'images_per_class' is missing"),
        (PLAIN, _drop("file_pattern"), "'file_pattern' is missing"),
        (PLAIN, _put("{}_{}.tfrecords", "file_pattern"), r"only \{\}\.tfrecords is read"),
        (PLAIN, _put({"train": 3, "test": 2}, "images_per_class", "0"), "pools.* not supported"),
        (PLAIN, _drop("images_per_class", "3"), "class 3 of TEST has no name or no number"),
        (PLAIN, _drop("class_names", "2"), "class 2 of VALID has no name or no number"),
        (PLAIN, _put(9, "classes_per_split", "TEST"), "class 4 of TEST has no name"),
        (PLAIN, _put(-1, "classes_per_split", "VALID"), "fewer than 0 classes"),
        (PLAIN, _put("many", "classes_per_split", "VALID"), "not a Meta-Dataset spec"),
        (PLAIN, _put([1, 2], "images_per_class"), "not a Meta-Dataset spec"),
        (PLAIN, _put("plain 0", "class_names", "3"), "'plain 0' is in TRAIN and in TEST"),
        (PLAIN, _put("plain 0", "class_names", "1"), "two classes of TRAIN are named 'plain 0'"),
        (TWO, _put(2, "superclasses_per_split", "TEST"), "do not agree"),
        (TWO, _put("a0-0", "class_names", "5"), "splits overlap.*'a0-0' is in TRAIN and in TEST"),
        (TREE, _put("n99", "class_names", "0"), "leaves of the TRAIN graph do not agree"),
        (TREE, _put(TREE["split_subgraphs"]["TRAIN"], "split_subgraphs", "TEST"), "overlap.*'n10'"),
        (TREE, _drop("images_per_class", "TEST", "n16"), "'n16' is missing"),
    ],
)
def test_contradictions_are_named(
    tmp_path: Path, content: dict[str, Any], change: Callable[[dict[str, Any]], None], problem: str
) -> None:
    changed = json.loads(json.dumps(content))
    read_spec(write_spec(tmp_path, changed))  # right before
    change(changed)
    with pytest.raises(FewshotError, match=rf"dataset_spec\.json: .*{problem}"):
        read_spec(write_spec(tmp_path, changed))


def test_a_graph_that_leads_back_to_itself(tmp_path: Path) -> None:
    content = hierarchy_spec("tree", {**GRAPHS, "TEST": {"a": ["b", "c"], "b": ["a", "d"]}}, 5)
    with pytest.raises(FewshotError, match=r"leads from . back to itself"):
        read_spec(write_spec(tmp_path, content))
