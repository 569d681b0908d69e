"""Meta-Dataset's files as its converters write them: records, class files and specifications."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image


def crc32c(data: bytes) -> int:
    """The checksum bit by bit (reflected polynomial 0x82F63B78), independent of any library."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def checksum(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32)


def framed(record: bytes) -> bytes:
    length = struct.pack("<Q", len(record))
    return length + checksum(length) + record + checksum(record)


def varint(number: int) -> bytes:
    low = bytes([number & 0x7F | (0x80 if number > 0x7F else 0)])
    return low + (varint(number >> 7) if number > 0x7F else b"")


def field(number: int, value: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(value)) + value


def example(image: bytes, label: int, name: bytes = b"image") -> bytes:
    """A serialised tf.train.Example {label: [int64], image: [bytes]}."""
    integers = field(3, field(1, varint(label)))
    content = field(1, image)
    return field(
        1,
        field(1, field(1, b"label") + field(2, integers))
        + field(1, field(1, name) + field(2, field(1, content))),
    )


def jpeg(red: int, green: int, blue: int = 0) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (8, 8), (red, green, blue)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def write_class(path: Path, images: Iterable[bytes], label: int) -> None:
    path.write_bytes(b"".join(framed(example(image, label)) for image in images))


def plain_spec(name: str, per_split: Sequence[int], images: Sequence[int]) -> dict[str, Any]:
    return {
        "name": name,
        "classes_per_split": dict(zip(("TRAIN", "VALID", "TEST"), per_split, strict=True)),
        "images_per_class": {str(k): n for k, n in enumerate(images)},
        "class_names": {str(k): f"{name} {k}" for k in range(len(images))},
        "path": f"/path/to/records/{name}",
        "file_pattern": "{}.tfrecords",
        "__class__": "DatasetSpecification",
    }


def two_level_spec(
    name: str, per_split: Sequence[int], alphabets: Sequence[int], images: int
) -> dict[str, Any]:
    names = [f"a{a}-{c}" for a, size in enumerate(alphabets) for c in range(size)]
    return {
        "name": name,
        "superclasses_per_split": dict(zip(("TRAIN", "VALID", "TEST"), per_split, strict=True)),
        "classes_per_superclass": {str(k): n for k, n in enumerate(alphabets)},
        "images_per_class": {str(k): images for k in range(len(names))},
        "superclass_names": {str(k): f"a{k}" for k in range(len(alphabets))},
        "class_names": {str(k): class_name for k, class_name in enumerate(names)},
        "path": f"/path/to/records/{name}",
        "file_pattern": "{}.tfrecords",
        "__class__": "BiLevelDatasetSpecification",
    }


def graph(children: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """A split's graph as export_graph writes it: nodes by WordNet id, leaves with no children."""
    names = sorted({*children, *(name for below in children.values() for name in below)})
    return [
        {
            "wn_id": name,
            "words": f"words of {name}",
            "children_ids": sorted(children.get(name, ())),
            "parents_ids": sorted(parent for parent in children if name in children[parent]),
        }
        for name in names
    ]


def hierarchy_spec(
    name: str, graphs: Mapping[str, Mapping[str, Sequence[str]]], images: int
) -> dict[str, Any]:
    exported = {split: graph(children) for split, children in graphs.items()}
    leaves = [
        node["wn_id"] for nodes in exported.values() for node in nodes if not node["children_ids"]
    ]
    return {
        "name": name,
        "split_subgraphs": exported,
        "images_per_class": {
            split: {node["wn_id"]: images for node in nodes} for split, nodes in exported.items()
        },
        "class_names": {str(k): leaf for k, leaf in enumerate(leaves)},
        "path": f"/path/to/records/{name}",
        "file_pattern": "{}.tfrecords",
        "__class__": "HierarchicalDatasetSpecification",
    }


def write_spec(folder: Path, spec: Mapping[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset_spec.json").write_text(json.dumps(spec, indent=2))
    return folder


def write_data_set(root: Path, spec: Mapping[str, Any], images: Mapping[int, int]) -> Path:
    """A whole data set; image i of class k is of the colour (5k, 5i)."""
    folder = write_spec(root / spec["name"], spec)
    for number, count in images.items():
        pictures = [jpeg(5 * number, 5 * i) for i in range(count)]
        write_class(folder / f"{number}.tfrecords", pictures, number)
    return folder


def write_plain(root: Path, name: str, per_split: Sequence[int], images: Sequence[int]) -> Path:
    return write_data_set(root, plain_spec(name, per_split, images), dict(enumerate(images)))
