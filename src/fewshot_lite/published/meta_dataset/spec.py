"""The contents of `dataset_spec.json`: classes, images, splits, and relations between classes.

There are three kinds (meta_dataset/data/dataset_spec.py): plain ones, those of two levels
(Omniglot: alphabets and their characters) and hierarchical ones (ImageNet: part of WordNet).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Literal

from fewshot_lite.core.errors import FewshotError, UsageError

SPEC_FILE = "dataset_spec.json"

#: The splits, in the order in which class ids are assigned to them.
SPLITS = ("TRAIN", "VALID", "TEST")

#: The splits by the names of the command line.
SPLIT_NAMES = dict(zip(("train", "validation", "test"), SPLITS, strict=True))

#: The only file pattern that Meta-Dataset's own reader accepts.
_PATTERN = "{}.tfrecords"


@dataclass(frozen=True)
class DataSetSpec:
    """One data set of Meta-Dataset; classes are identified by numbers."""

    folder: Path
    class_names: Mapping[int, str]
    images: Mapping[int, int]
    """The number of images of each class."""
    splits: Mapping[str, range]
    """The classes of TRAIN, VALID and TEST."""
    kind: Literal["plain", "two-level", "hierarchy"] = "plain"
    families: Mapping[str, tuple[tuple[int, ...], ...]] | None = None
    """The related classes of each split: alphabets, or the leaves below a node of WordNet."""

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.folder.name

    def classes(self, split: str) -> range:
        """Return the classes of a split; raise UsageError if there is no such split."""
        if split not in self.splits:
            raise UsageError(f"{split}: no such split. There are {', '.join(self.splits)}.")
        return self.splits[split]

    def class_file(self, number: int) -> Path:
        """Return the file of a class's records."""
        return self.folder / _PATTERN.format(number)


def read_spec(folder: Path) -> DataSetSpec:
    """Read the specification of a data set and check it for contradictions.

    Raises:
        FewshotError: missing, no such JSON, a kind or a layout that Meta-Dataset's reader does not
            accept either, a split missing, a class in two splits or without a number of images.
    """
    path = folder / SPEC_FILE
    content = _load(path)
    try:
        spec = _READERS[content["__class__"]](folder, content)
        if content["file_pattern"] != _PATTERN:
            raise _BadSpec(f"file_pattern {content['file_pattern']!r}: only {_PATTERN} is read")
        _check(spec)
    except _BadSpec as error:
        raise FewshotError(f"{path}: {error}.") from None
    except KeyError as error:
        raise FewshotError(f"{path}: {error} is missing. Convert the data set again.") from None
    except (TypeError, ValueError, AttributeError):
        raise FewshotError(f"{path}: not a Meta-Dataset specification.") from None
    return spec


class _BadSpec(Exception):
    """A fault of a specification, without its path."""


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        older = path.with_suffix(".pkl")
        if older.exists():  # pickles run code when they are read
            raise FewshotError(
                f"{older}: a specification of the old kind, which is not read. Convert it to "
                f"{path.name} with Meta-Dataset's load_dataset_spec(..., convert_from_pkl=True)."
            ) from None
        raise FewshotError(
            f"{path}: no such file. Copy it from where the data set was converted, or from "
            "meta_dataset/dataset_conversion/dataset_specs of Meta-Dataset."
        ) from None
    except OSError as error:
        raise FewshotError(f"{path}: {error.strerror or error}.") from None
    except (ValueError, RecursionError):
        raise FewshotError(f"{path}: not JSON, or damaged. Copy or convert it again.") from None
    if not isinstance(content, dict) or content.get("__class__") not in _READERS:
        raise FewshotError(f"{path}: not a Meta-Dataset specification.")
    return content


def _plain(folder: Path, content: dict[str, Any]) -> DataSetSpec:
    return DataSetSpec(
        folder,
        class_names=_names(content),
        images=_by_id(content["images_per_class"]),
        splits=_ranges(_counts(content["classes_per_split"])),
    )


def _two_level(folder: Path, content: dict[str, Any]) -> DataSetSpec:
    sizes = _by_id(content["classes_per_superclass"])
    ends = [0, *accumulate(sizes[number] for number in range(len(sizes)))]
    alphabets = _ranges(_counts(content["superclasses_per_split"]))
    if sum(map(len, alphabets.values())) > len(sizes):
        raise _BadSpec("superclasses_per_split and classes_per_superclass do not agree")
    return DataSetSpec(
        folder,
        class_names=_names(content),
        images=_by_id(content["images_per_class"]),
        splits={name: range(ends[part.start], ends[part.stop]) for name, part in alphabets.items()},
        kind="two-level",
        families={
            name: tuple(tuple(range(ends[n], ends[n + 1])) for n in part)
            for name, part in alphabets.items()
        },
    )


def _hierarchy(folder: Path, content: dict[str, Any]) -> DataSetSpec:
    """Read a specification whose splits are graphs of WordNet ids with classes as leaves."""
    names = _names(content)
    ids = {name: number for number, name in names.items()}
    subgraphs = content["split_subgraphs"]
    _check_splits(subgraphs)
    graphs = {
        split: {str(node["wn_id"]): node["children_ids"] for node in subgraphs[split]}
        for split in SPLITS
    }
    leaves = {
        split: sorted(name for name, children in graph.items() if not children)
        for split, graph in graphs.items()
    }
    _check_disjoint(leaves)
    splits = _ranges({split: len(leaves[split]) for split in SPLITS})
    for split, numbers in splits.items():
        if sorted(names[number] for number in numbers) != leaves[split]:
            raise _BadSpec(f"class_names and the leaves of the {split} graph do not agree")
    return DataSetSpec(
        folder,
        class_names=names,
        images={
            ids[name]: int(content["images_per_class"][split][name])
            for split in SPLITS
            for name in leaves[split]
        },
        splits=splits,
        kind="hierarchy",
        families={split: _families(graphs[split], ids) for split in SPLITS},
    )


_READERS = {
    "DatasetSpecification": _plain,
    "BiLevelDatasetSpecification": _two_level,
    "HierarchicalDatasetSpecification": _hierarchy,
}


def _families(graph: dict[str, list[str]], ids: dict[str, int]) -> tuple[tuple[int, ...], ...]:
    """Return the leaves below each inner node, both sorted by WordNet id, as published."""
    below: dict[str, frozenset[str]] = {}
    for name in graph:
        _collect(name, graph, below)
    return tuple(
        tuple(ids[leaf] for leaf in sorted(below[name])) for name in sorted(graph) if graph[name]
    )


def _collect(root: str, graph: dict[str, list[str]], below: dict[str, frozenset[str]]) -> None:
    """Add the leaves below a node and its descendants to `below`, children first."""
    stack, open_nodes = [root], set[str]()
    while stack:
        name = stack[-1]
        waiting = [child for child in graph[name] if child not in below]
        if name in below or not waiting:
            leaves = (below[child] for child in graph[name])
            below[name] = frozenset().union(*leaves) if graph[name] else frozenset([name])
            open_nodes.discard(stack.pop())
        elif name in open_nodes:
            raise _BadSpec(f"its graph leads from {name} back to itself")
        else:
            open_nodes.add(name)
            stack += waiting


def _check(spec: DataSetSpec) -> None:
    for split, numbers in spec.splits.items():
        for number in numbers:
            if number not in spec.class_names or number not in spec.images:
                raise _BadSpec(f"class {number} of {split} has no name or no number of images")
    _check_disjoint(
        {split: (spec.class_names[n] for n in numbers) for split, numbers in spec.splits.items()}
    )


def _check_disjoint(splits: Mapping[str, Iterable[str]]) -> None:
    seen: dict[str, str] = {}
    for split, names in splits.items():
        for name in names:
            if seen.get(name) == split:
                raise _BadSpec(f"two classes of {split} are named {name!r}. Rename or merge them")
            if name in seen:
                raise _BadSpec(
                    f"the splits overlap: class {name!r} is in {seen[name]} and in {split}, so it "
                    "would be trained on and tested. Leave it in one"
                )
            seen[name] = split


def _check_splits(content: Any) -> None:
    for split in SPLITS:
        if split not in content:
            raise _BadSpec(f"it has no split {split}, not even an empty one. Convert it again")


def _counts(numbers: Any) -> dict[str, int]:
    _check_splits(numbers)
    counts = {split: int(numbers[split]) for split in SPLITS}
    if min(counts.values()) < 0:
        raise _BadSpec("a split has fewer than 0 classes")
    return counts


def _ranges(counts: Mapping[str, int]) -> dict[str, range]:
    """Return the class ids of each split, which are assigned in order."""
    ends = [0, *accumulate(counts[split] for split in SPLITS)]
    return {split: range(*pair) for split, pair in zip(SPLITS, pairwise(ends), strict=True)}


def _by_id(numbers: Any) -> dict[int, int]:
    if any(isinstance(number, dict) for number in numbers.values()):
        raise _BadSpec("images split within a class (pools) are not supported")
    return {int(key): int(number) for key, number in numbers.items()}


def _names(content: dict[str, Any]) -> dict[int, str]:
    """Return the names of classes by id, as text: those of traffic_sign are numbers."""
    return {int(key): str(name) for key, name in content["class_names"].items()}
