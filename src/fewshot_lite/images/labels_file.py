"""Photos whose classes a table tells, in the place of class folders.

    file,label                  IMG_1.jpg,mug,120,80,400,300
    IMG_1.jpg,mug       or      IMG_1.jpg,keys,10,600,200,150
    IMG_2.jpg,keys              IMG_2.jpg,keys,,,,

The header may be left out; with it, columns may stand in any order and others are passed over. Four
more columns are a box around the thing (`images.regions`); a row without it is the whole photo.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.images.folders import LabelledImages, check_class_names, require_folder
from fewshot_lite.images.photo import Source
from fewshot_lite.images.regions import Region, as_box

#: Names that the columns may have, whatever the case.
_NAMES = {
    "file": ("file", "filename", "file_name", "path", "image", "photo"),
    "label": ("label", "class", "category", "name"),
    "x": ("x", "left", "xmin"),
    "y": ("y", "top", "ymin"),
    "w": ("w", "width"),
    "h": ("h", "height"),
}
_COLUMNS = tuple(_NAMES)
#: Bytes of a table: a line is read as a whole, and a file need not have line ends.
_MOST_BYTES = 100_000_000


def scan_labels(folder: Path, labels: Path) -> LabelledImages:
    """The photos that a table names (nothing is decoded); others in the folder are passed over.

    Args:
        folder: where relative paths begin.
        labels: a CSV file in UTF-8, or in UTF-16 with its mark, separated by commas, semicolons or
            tabs.

    Raises:
        UsageError: one of the two is missing.
        FewshotError: the table cannot be read, a row is wrong, or class names cannot be told apart.
    """
    require_folder(folder)
    if not labels.is_file():
        reason = "a folder, not a file" if labels.is_dir() else "no such file"
        raise UsageError(f"--labels {labels}: {reason}.")
    if labels.stat().st_size > _MOST_BYTES:
        raise FewshotError(f"{labels}: larger than {_MOST_BYTES // 10**6} MB, as no table is.")
    sources: list[Source] = []
    given: list[str] = []
    for line, (file, label, *box) in _rows(labels):
        where = f"{labels}, line {line}"
        if not file.strip() or not label.strip():
            raise FewshotError(f"{where}: no {'file' if not file.strip() else 'label'}.")
        photo: Source = _place(folder, file.strip())
        if any(cell.strip() for cell in box):
            try:
                photo = Region(photo, as_box([cell.strip() for cell in box]))
            except UsageError as error:
                raise FewshotError(f"{where}: {error.args[0]}") from None
        sources.append(photo)
        given.append(label.strip())
    if not sources:
        raise FewshotError(f"{labels}: no rows. It needs a file and a label in each.")
    names = tuple(sorted(set(given)))
    check_class_names(labels, names)
    number = {name: k for k, name in enumerate(names)}
    numbers = tuple(number[label] for label in given)
    return LabelledImages(labels.name, folder, names, tuple(sources), numbers)


def _place(folder: Path, file: str) -> Path:
    """Where a file of a table lies; tables from Windows have \\ between folders."""
    place = folder / file
    return place if "\\" not in file or place.exists() else folder / file.replace("\\", "/")


def _rows(labels: Path) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and cells, (file, label) or (file, label, x, y, w, h)."""
    columns: Sequence[int] | None = None
    try:
        with labels.open("rb") as raw:
            wide = raw.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # as Excel's text is
        with labels.open(encoding="utf-16" if wide else "utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            reader = csv.reader(file, delimiter=max(",;\t", key=first.count))
            for row in reader:
                if not any(cell.strip() for cell in row):
                    continue
                if columns is None:
                    columns = _header(row)
                    if columns:
                        continue
                    columns = range(len(row)) if len(row) in (2, 6) else ()
                if not columns or len(row) <= max(columns):
                    raise FewshotError(
                        f"{labels}, line {reader.line_num}: {len(row)} columns. Give file,label or "
                        "file,label,x,y,w,h in each row."
                    )
                yield reader.line_num, [row[column] for column in columns]
    except UnicodeDecodeError:
        raise FewshotError(f"{labels}: not UTF-8 text. Save it as CSV in UTF-8.") from None
    except csv.Error as error:
        raise FewshotError(f"{labels}: not CSV ({error}).") from None
    except OSError as error:
        raise FewshotError(f"{labels}: cannot be read ({error.strerror or error}).") from None


def _header(row: Sequence[str]) -> list[int]:
    """The places of the columns in a header; none if the row is no header."""
    cells = [cell.strip().lower() for cell in row]
    places = {
        name: next((cells.index(word) for word in words if word in cells), None)
        for name, words in _NAMES.items()
    }
    if places["file"] is None or places["label"] is None:
        return []
    boxes = all(places[name] is not None for name in "xywh")
    found = [places[name] for name in (_COLUMNS if boxes else ("file", "label"))]
    return [place for place in found if place is not None]
