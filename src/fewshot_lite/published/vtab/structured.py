"""Readers of the structured tasks: counts, distances, positions and angles, as classes.

Labels are derived as in VTAB's code (google-research/task_adaptation, data/*.py).
"""

from __future__ import annotations

import json
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from fewshot_lite.core.errors import FewshotError
from fewshot_lite.images.photo import PhotoError
from fewshot_lite.published.tfrecord import Record, RecordFile, example_integer
from fewshot_lite.published.vtab.errors import reading
from fewshot_lite.published.vtab.pool import CUT, Rows, Splits, VtabImages, cut, file_pool, pool
from fewshot_lite.published.vtab.stored import RecordImage, RowImage, WholeImage

#: Bounds of the classes; a value equal to a bound belongs to the class below it.
_CLEVR_DISTANCES = (0.0, 8.0, 8.5, 9.0, 9.5, 10.0, 100.0)
_KITTI_DISTANCES = (-100.0, 8.0, 20.0, 999.0)
_NO_VEHICLE = 1000.0

_DSPRITES = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
_DSPRITES_SIDE = 64
_NORB_SIDE = 96
_NORB_PREFIXES = {
    "train": "smallnorb-5x46789x9x18x6x2x96x96-training",
    "test": "smallnorb-5x01235x9x18x6x2x96x96-testing",
}


def interval(value: float, bounds: tuple[float, ...]) -> int:
    """Return the index of the last bound below a value, both in float32, or raise ValueError."""
    single = np.asarray(bounds, dtype=np.float32)
    below = int(np.searchsorted(single, np.float32(value), side="left")) - 1
    if below < 0:
        raise ValueError(f"{value} is not above {bounds[0]}")
    return below


def clevr_count(folder: Path) -> Splits:
    """Count the objects, 3 to 10. Labels of test scenes are not public: validation is the test."""
    names = tuple(str(count) for count in range(3, 11))
    train, test = _clevr(folder, _clevr_objects)
    return Splits(names, train, test)


def clevr_distance(folder: Path) -> Splits:
    """Classify the distance of the closest object from the camera, in six ranges."""
    names = tuple(f"{low:g} to {high:g}" for low, high in pairwise(_CLEVR_DISTANCES))
    train, test = _clevr(folder, _clevr_closest)
    return Splits(names, train, test)


def _clevr_objects(scene: dict[str, Any]) -> int:
    count = len(scene["objects"]) - 3
    if not 0 <= count <= 7:
        raise ValueError(f"a scene of {count + 3} objects")
    return count


def _clevr_closest(scene: dict[str, Any]) -> int:
    return interval(min(item["pixel_coords"][2] for item in scene["objects"]), _CLEVR_DISTANCES)


def _clevr(folder: Path, label: Callable[[dict[str, Any]], int]) -> Iterator[VtabImages]:
    """Yield training and validation images, with labels made from their scenes."""
    for split in ("train", "val"):
        path = folder / "scenes" / f"CLEVR_{split}_scenes.json"
        with reading(path):
            scenes = json.loads(path.read_bytes())["scenes"]
            scenes.sort(key=lambda scene: scene["image_filename"])
            images = folder / "images" / split
            paths = [images / Path(scene["image_filename"]).name for scene in scenes]
            labels = [label(scene) for scene in scenes]
        yield file_pool(paths, labels)


def dsprites_location(folder: Path) -> Splits:
    """Classify the x position, 32 values in 16 classes."""
    return _dsprites(folder / _DSPRITES, column=4, values=32)


def dsprites_orientation(folder: Path) -> Splits:
    """Classify the angle, 40 values in 16 classes."""
    return _dsprites(folder / _DSPRITES, column=3, values=40)


def _dsprites(path: Path, *, column: int, values: int) -> Splits:
    """Split into 90 % training and 10 % test images. The file's pickled metadata is not read."""
    classes = 16
    with reading(path), np.load(path, allow_pickle=False) as arrays:
        latents = arrays["latents_classes"][:, column].astype(np.float64)
    labels = np.floor(latents / (values / classes)).astype(np.int64)

    def load(rows: Rows) -> list[RowImage]:
        with reading(path):
            array = _dsprites_rows(path, rows)
        return [RowImage(path, int(row), place, array) for place, row in enumerate(rows)]

    images = pool(labels, load, (_DSPRITES_SIDE, _DSPRITES_SIDE))
    train, test = cut(images, test_percent=10)
    return Splits(tuple(str(k) for k in range(classes)), train, test, notes=(CUT,))


def _dsprites_rows(path: Path, rows: Rows) -> npt.NDArray[np.uint8]:
    """Read images as bits, (n, 64, 8), in chunks: unpacked, the whole file would be 3 GB."""
    bits = np.zeros((len(rows), _DSPRITES_SIDE, _DSPRITES_SIDE // 8), dtype=np.uint8)
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    with zipfile.ZipFile(path) as archive, archive.open("imgs.npy") as file:
        shape, dtype = _npy_header(file)
        if dtype != np.uint8 or shape[1:] != (_DSPRITES_SIDE, _DSPRITES_SIDE):
            raise ValueError(f"images of shape {shape}, {dtype}")
        chunk = 4096
        for start in range(0, shape[0], chunk):
            first, last = np.searchsorted(ordered, (start, start + chunk))
            if first == len(ordered):
                break
            count = min(chunk, shape[0] - start)
            data = file.read(count * _DSPRITES_SIDE**2)
            pixels = np.frombuffer(data, np.uint8).reshape(count, _DSPRITES_SIDE, _DSPRITES_SIDE)
            inside = ordered[first:last] - start
            bits[order[first:last]] = np.packbits(pixels[inside], axis=-1)
    return bits


def _npy_header(file: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    form = np.lib.format
    old = form.read_magic(file) == (1, 0)
    read = form.read_array_header_1_0 if old else form.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if fortran:
        raise ValueError("columns first")
    return shape, dtype


def smallnorb_azimuth(folder: Path) -> Splits:
    """Classify the azimuth: 18 angles in steps of 20°, stored as 0, 2, … 34."""
    return _smallnorb(folder, column=2, step=2, names=[f"{20 * k}°" for k in range(18)])


def smallnorb_elevation(folder: Path) -> Splits:
    """Classify the elevation: 9 angles from 30° in steps of 5°."""
    return _smallnorb(folder, column=1, step=1, names=[f"{30 + 5 * k}°" for k in range(9)])


def _smallnorb(folder: Path, *, column: int, step: int, names: list[str]) -> Splits:
    """Read the left camera's images. Half of the test images are for validation."""
    train, other = (_norb_split(folder, s, column, step, len(names)) for s in ("train", "test"))
    val, test = cut(other, test_percent=50)
    note = "which half of the test images is for validation is drawn otherwise than published"
    return Splits(tuple(names), train, test, val, (note,))


def _norb_split(folder: Path, split: str, column: int, step: int, classes: int) -> VtabImages:
    info, data = (folder / f"{_NORB_PREFIXES[split]}-{kind}.mat" for kind in ("info", "dat"))
    with reading(info), info.open("rb") as file:
        shape = _norb_header(file, magic=0x1E3D4C54)  # int32
        values = np.frombuffer(file.read(), "<i4").reshape(shape[:2])
        labels = values[:, column].astype(np.int64) // step
        if labels.min(initial=0) < 0 or labels.max(initial=0) >= classes:
            raise ValueError(f"an angle that is not one of {classes}")
    with reading(data), data.open("rb") as file:
        shape = _norb_header(file, magic=0x1E3D4C55)  # uint8
        if shape != (len(labels), 2, _NORB_SIDE, _NORB_SIDE):
            raise ValueError(f"images of shape {shape} for {len(labels):,} labels")
        start = file.tell()

    def load(rows: Rows) -> list[RecordImage]:
        pair = 2 * _NORB_SIDE**2
        return [RecordImage(data, start + int(r) * pair, (_NORB_SIDE, _NORB_SIDE)) for r in rows]

    return pool(labels, load, (_NORB_SIDE, _NORB_SIDE))


def _norb_header(file: BinaryIO, *, magic: int) -> tuple[int, ...]:
    """Read the sizes: little-endian type, number of dimensions, and at least three of them."""
    kind, dimensions = (int(n) for n in np.frombuffer(file.read(8), "<i4"))
    if kind != magic or not 1 <= dimensions <= 4:
        raise ValueError("not smallNORB's binary format")
    sizes = np.frombuffer(file.read(4 * max(3, dimensions)), "<i4")
    return tuple(int(size) for size in sizes[:dimensions])


def kitti(folder: Path) -> Splits:
    """Classify the distance of the closest car, van or truck: three ranges, or none.

    With the development kit (`mapping/`) all frames of a drive are in one split, drawn as by
    TensorFlow Datasets.
    """
    labels_folder = folder / "training" / "label_2"
    files = sorted(labels_folder.glob("*.txt"))
    if not files:
        raise FewshotError(f"{labels_folder}: no annotations. Unpack data_object_label_2.zip.")
    labels = [_kitti_label(path) for path in files]
    paths = [folder / "training" / "image_2" / f"{path.stem}.png" for path in files]
    images = file_pool(paths, labels)
    names = ("to 8 m", "8 to 20 m", "more than 20 m", "no vehicle")
    mapping = next(
        (f for f in (folder / "mapping", *folder.glob("devkit*/mapping")) if f.is_dir()), None
    )
    if mapping is None:
        train, test = cut(images, test_percent=10)
        note = (
            "without the development kit (mapping/train_rand.txt, train_mapping.txt) frames are "
            "cut at random, and those of one drive fall on both sides: easier than published"
        )
        return Splits(names, train, test, notes=(note,))
    split = _kitti_drives(mapping, [int(path.stem) for path in files])
    train, val, test = (images.subset(positions) for positions in split)
    return Splits(names, train, test, val)


def _kitti_label(path: Path) -> int:
    closest = _NO_VEHICLE
    with reading(path):
        for line in path.read_text(encoding="utf-8").splitlines():
            words = line.split()
            if words and words[0] in ("Car", "Van", "Truck"):
                closest = min(closest, float(words[13]))
        return interval(closest, _KITTI_DISTANCES)


def _kitti_drives(mapping: Path, frames: list[int]) -> tuple[Rows, Rows, Rows]:
    """Return positions of training, validation and test frames; the latter are a tenth each."""
    by_drive: dict[str, list[int]] = defaultdict(list)
    listing, drives = mapping / "train_rand.txt", mapping / "train_mapping.txt"
    with reading(drives):
        lines = drives.read_text(encoding="utf-8").splitlines()
    with reading(listing):
        numbers = [int(n) - 1 for n in listing.read_text(encoding="utf-8").split(",") if n.strip()]
        for frame, number in enumerate(numbers):
            by_drive[lines[number].split()[1]].append(frame)
        rest = sorted(by_drive)
        tenth = max(1, len(rest) // 10)
        draw = np.random.RandomState(123)
        test = set(draw.choice(rest, tenth, replace=False))
        rest = sorted(set(rest) - test)
        val = set(draw.choice(rest, tenth, replace=False))
    place = {frame: position for position, frame in enumerate(frames)}

    def positions(names: set[str]) -> Rows:
        inside = [place[f] for name in names for f in by_drive[name] if f in place]
        return np.array(sorted(inside), dtype=np.int64)

    return positions(set(rest) - val), positions(val), positions(test)


_CLASSES = 6


def dmlab(folder: Path) -> Splits:
    """Read `dmlab-{train,validation,test}.tfrecord*`: `image` (JPEG), `label` (0 to 5), `filename`.

    The labels are in the records, so that all of the files is read once.
    """
    train, val, test = (_split(folder, split) for split in ("train", "validation", "test"))
    return Splits(tuple(str(label) for label in range(_CLASSES)), train, test, val)


def _split(folder: Path, split: str) -> VtabImages:
    files = sorted(folder.glob(f"dmlab-{split}.tfrecord*"))
    if not files:
        raise FewshotError(
            f"{folder}: lacks dmlab-{split}.tfrecord. Unpack dmlab.tar.gz into this folder."
        )
    records: list[Record] = []
    labels: list[int] = []
    for path in files:
        stored = RecordFile(path)
        with path.open("rb") as file:
            for record in (stored[i] for i in range(len(stored))):
                file.seek(record.start)
                try:
                    label = example_integer(file.read(record.length), "label")
                    if label >= _CLASSES:
                        raise PhotoError(f"label {label} of {_CLASSES} classes")
                except PhotoError as error:
                    raise FewshotError(f"{record}: {error}. Fetch the file again.") from None
                records.append(record)
                labels.append(label)

    def load(rows: Rows) -> list[WholeImage]:
        return [WholeImage(records[row]) for row in rows]

    return pool(labels, load, (480, 360))
