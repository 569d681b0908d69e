"""DMLab: frames of a 3-D world, labelled by how far which object is, as published: TFRecords."""

from __future__ import annotations

from pathlib import Path

from fewshot_lite.core.errors import FewshotError
from fewshot_lite.images.photo import PhotoError
from fewshot_lite.published.tfrecord import Record, RecordFile, example_integer
from fewshot_lite.published.vtab.pool import Pool, Rows, Splits, pool
from fewshot_lite.published.vtab.stored import WholeImage

_CLASSES = 6


def dmlab(folder: Path) -> Splits:
    """`dmlab-{train,validation,test}.tfrecord*`: `image` (JPEG), `label` (0 to 5), `filename`.

    The labels are in the records, so reading them reads the files once.
    """
    train, val, test = (_split(folder, split) for split in ("train", "validation", "test"))
    return Splits(tuple(str(label) for label in range(_CLASSES)), train, test, val)


def _split(folder: Path, split: str) -> Pool:
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
