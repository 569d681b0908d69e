"""Reading of Meta-Dataset's folders: their data sets and records."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fewshot_lite.core.errors import FewshotError
from fewshot_lite.images.folders import LabelledImages, require_folder, subfolders
from fewshot_lite.published.meta_dataset.spec import SPEC_FILE, DataSetSpec, read_spec
from fewshot_lite.published.tfrecord import Record, RecordFile

#: The most images of a class that training uses: QuickDraw has up to 344,000.
MOST_IMAGES = 2000


def is_meta_dataset(root: Path) -> bool:
    """Return whether a folder is a converted data set, or holds some."""
    try:
        return root.is_dir() and next(converted_folders(root), None) is not None
    except OSError:
        return False


def read_specs(root: Path) -> list[DataSetSpec]:
    """Return the specifications of the data sets in a folder, by name.

    Raises:
        UsageError: no such folder, or no permission.
        FewshotError: not of this format; a specification missing or wrong (see `read_spec`).
    """
    require_folder(root)
    specs = [read_spec(folder) for folder in converted_folders(root)]
    if not specs:
        raise FewshotError(
            f"{root}: no converted data sets of Meta-Dataset. It needs a folder for each, with "
            f"{SPEC_FILE} and the class files 0.tfrecords, 1.tfrecords, ..."
        )
    return specs


def converted_folders(root: Path) -> Iterator[Path]:
    """Yield `root`, or the folders in it, that hold a specification or class files."""
    for folder in [root, *subfolders(root)]:
        # An old specification (.pkl) counts too: reading it fails with a message that helps.
        spec = any(folder.joinpath(SPEC_FILE).with_suffix(s).exists() for s in (".json", ".pkl"))
        if spec or folder.joinpath("0.tfrecords").exists():
            yield folder
            if folder == root:
                return


def open_class(spec: DataSetSpec, number: int) -> RecordFile:
    """Open the records of a class.

    Raises:
        FewshotError: the file is missing, cut off or damaged, or its number of records is not that
            of the specification.
    """
    path = spec.class_file(number)
    records = RecordFile(path)
    if len(records) != spec.images[number]:
        raise FewshotError(
            f"{path}: {len(records)} records, but {SPEC_FILE} says {spec.images[number]} for class "
            f"{spec.class_names[number]!r}. Convert or copy the data set again."
        )
    return records


def scan_meta_dataset(root: Path, split: str) -> list[LabelledImages]:
    """Return the data sets that have classes in a split, for training.

    Of larger classes `MOST_IMAGES` are taken, evenly spaced over the file.

    Args:
        root: a folder of converted data sets, or one of them.
        split: TRAIN, VALID or TEST.

    Raises:
        UsageError: no such folder or split.
        FewshotError: a specification or a class file is missing or wrong; no classes.
    """
    specs = [spec for spec in read_specs(root) if spec.classes(split)]
    if not specs:
        raise FewshotError(f"{root}: none of its data sets has classes in the {split} split.")
    return [_labelled(spec, split) for spec in specs]


def _labelled(spec: DataSetSpec, split: str) -> LabelledImages:
    classes = spec.splits[split]
    chosen = [_spaced(open_class(spec, number)) for number in classes]
    return LabelledImages(
        name=spec.name,
        root=spec.folder,
        class_names=tuple(spec.class_names[number] for number in classes),
        paths=tuple(record for records in chosen for record in records),
        labels=tuple(label for label, records in enumerate(chosen) for _ in records),
    )


def _spaced(records: RecordFile) -> list[Record]:
    count = min(MOST_IMAGES, len(records))
    return [records[i * len(records) // count] for i in range(count)]
