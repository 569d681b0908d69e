"""Read labelled photos from a CSV table instead of class folders.

    file,label                  IMG_1.jpg,mug,120,80,400,300
    IMG_1.jpg,mug       or      IMG_1.jpg,keys,10,600,200,150
    IMG_2.jpg,keys              IMG_2.jpg,keys,,,,

The header is optional; with it, columns may be in any order and unknown ones are ignored. Four more
columns give a box around the object (`images.regions`), as x, y, w, h or as corners (xmin, ymin,
xmax, ymax); a row without a box is the whole photo. If a column names the data-set split, all rows
must be of the same one.
"""

from __future__ import annotations

import codecs
import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.files import READING, check_file, failing_as
from fewshot_lite.core.text import DIFFER_ONLY, NO_CONTROLS, as_disks_see, is_hidden
from fewshot_lite.images.folders import LabelledImages, is_part, require_folder
from fewshot_lite.images.photo import Source, place_of
from fewshot_lite.images.regions import Region, as_box

#: Accepted names of the columns, in any case.
_NAMES = {
    "file": ("file", "filename", "file_name", "path", "image", "photo"),
    "label": ("label", "class", "category", "name"),
    "x": ("x", "left", "xmin", "x_min", "x1"),
    "y": ("y", "top", "ymin", "y_min", "y1"),
    "w": ("w", "width"),
    "h": ("h", "height"),
}
#: The corner opposite (x, y). It has priority over width and height, which may be the photo's.
_CORNER = {
    "right": ("xmax", "x_max", "x2", "right"),
    "bottom": ("ymax", "y_max", "y2", "bottom"),
}
_PART = {"part": ("split", "subset", "partition", "set", "fold")}
#: Largest table in bytes: a line is read as a whole, and a file need not have line ends.
_MOST_BYTES = 100_000_000


def scan_labels(folder: Path, labels: Path) -> LabelledImages:
    """Return the photos listed in a table; nothing is decoded, and other photos are ignored.

    Args:
        folder: base of relative paths.
        labels: a CSV file in UTF-8, or UTF-16 with a byte order mark, separated by commas,
            semicolons or tabs.

    Raises:
        UsageError: one of the two is missing.
        FewshotError: the table cannot be read, a row is wrong, or class names cannot be told apart.
    """
    if os.path.isfile(folder):
        raise UsageError(
            f"{folder}: a file. With --labels, give the folder that the photos are in."
        )
    require_folder(folder)
    check_file(labels, f"--labels {labels}")
    if labels.stat().st_size > _MOST_BYTES:
        raise FewshotError(f"{labels}: larger than {_MOST_BYTES // 10**6} MB, as no table is.")
    sources: list[Source] = []
    row_labels: list[str] = []
    parts, spelled = set[str](), dict[str, str]()
    for line, cells in _rows(labels):
        where = f"{labels}, line {line}"
        for cell in ("file", "label"):
            if not as_disks_see(cells[cell]):
                raise FewshotError(f"{where}: no {cell}.")
        label = cells["label"]
        if any(map(is_hidden, label)):
            raise FewshotError(f"{where}: {label!r}. {NO_CONTROLS}")
        if (twin := spelled.setdefault(as_disks_see(label), label)) != label:
            raise FewshotError(f"{where}: {label!r} and {twin!r} {DIFFER_ONLY}. Spell them alike.")
        try:
            sources.append(_source(_place(folder, cells["file"]), cells))
        except UsageError as error:
            raise FewshotError(f"{where}: {error.args[0]}") from None
        row_labels.append(label)
        parts.add(cells.get("part", ""))
    if not sources:
        raise FewshotError(f"{labels}: no rows. It needs a file and a label in each.")
    if len(parts) > 1 and all(map(is_part, parts)):
        raise FewshotError(
            f"{labels}: its rows are of several parts of a data set ({', '.join(sorted(parts))}). "
            "Give a table of one, and try the model on another."
        )
    names = tuple(sorted(set(row_labels)))
    if not any(map(_is_there, map(place_of, sources))):
        raise FewshotError(
            f"{labels}: none of its files is there, e.g. {place_of(sources[0])}. Paths in it begin "
            f"at {str(folder)!r}."
        )
    number = {name: k for k, name in enumerate(names)}
    numbers = tuple(number[label] for label in row_labels)
    return LabelledImages(labels.name, folder, names, tuple(sources), numbers)


def _source(file: Path, cells: Mapping[str, str]) -> Source:
    """Return the photo, or the region given by x, y and w, h or right, bottom; raise UsageError."""
    corner = "right" in cells
    box = [cells.get(name, "") for name in ("x", "y", *(_CORNER if corner else "wh"))]
    if not any(box):
        return file
    x, y, w, h = as_box(box)
    return Region(file, (x, y, w - x, h - y) if corner else (x, y, w, h))


def _place(folder: Path, file: str) -> Path:
    """Return the path of a file in a table, which may use Windows' \\ between folders."""
    place = folder / file
    return place if "\\" not in file or _is_there(place) else folder / file.replace("\\", "/")


def _is_there(place: Path) -> bool:
    return os.path.exists(place)


def _rows(labels: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield line numbers and cells by column name: file, label and others."""
    columns: dict[str, int] | None = None
    try:
        with failing_as(labels, READING), labels.open("rb") as raw:
            utf16 = raw.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # Excel's text files
        encoding = "utf-16" if utf16 else "utf-8-sig"
        with failing_as(labels, READING), labels.open(encoding=encoding, newline="") as file:
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
                    columns = dict(zip(_NAMES, range(len(row)), strict=False))
                    columns = columns if len(row) in (2, 6) else {}
                if not columns or len(row) <= max(columns.values()):
                    raise FewshotError(
                        f"{labels}, line {reader.line_num}: {len(row)} columns. Give file,label or "
                        "file,label,x,y,w,h in each row."
                    )
                yield reader.line_num, {name: row[k].strip() for name, k in columns.items()}
    except UnicodeDecodeError:
        raise FewshotError(f"{labels}: not UTF-8 text. Save it as CSV in UTF-8.") from None
    except csv.Error as error:
        raise FewshotError(f"{labels}: not CSV ({error}).") from None


def _header(row: Sequence[str]) -> dict[str, int]:
    """Return the index of each column by name; {} if the row is not a header."""
    cells = [cell.strip().lower() for cell in row]
    every = (_NAMES | _CORNER | _PART).items()
    present = ((name, word) for name, words in every for word in words[::-1] if word in cells)
    columns = {name: cells.index(word) for name, word in present}
    if not {"file", "label"} <= columns.keys():
        return {}
    used = {"file", "label", "part"}
    for box in ({"x", "y", *_CORNER}, {"x", "y", "w", "h"}):
        if box <= columns.keys():
            used |= box
            break
    return {name: index for name, index in columns.items() if name in used}
