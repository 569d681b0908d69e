"""Class folders, an archive of them and a table are the same photos with the same classes."""

from __future__ import annotations

import os
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.images import archives
from fewshot_lite.images.decoding import decode_pixels
from fewshot_lite.images.finding import find_labelled
from fewshot_lite.images.folders import LabelledImages
from fewshot_lite.images.photo import PhotoError, file_of, load_square, place_of
from fewshot_lite.images.preflight import check
from fewshot_lite.images.regions import Region, as_box, square_around
from photos import SIZE, contents, draw_classes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return draw_classes(tmp_path / "things", {"keys": 2, "mug": 3})


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def table(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def same(found: LabelledImages, folder: LabelledImages) -> None:
    labels = [found.class_names[k] for k in found.labels]
    assert labels == [folder.class_names[k] for k in folder.labels]
    pixels, problems = decode_pixels(found.paths, SIZE)
    assert not problems
    assert np.array_equal(pixels, decode_pixels(folder.paths, SIZE)[0])


@pytest.mark.parametrize("around", ["", "my things/", "a/b/"])
def test_an_archive_is_its_folder_and_nothing_is_unpacked(
    folder: Path, tmp_path: Path, around: str
) -> None:
    files = {around + name: data for name, data in contents(folder).items()}
    files |= {"__MACOSX/mug/._00.png": b"x", around + "mug/notes.txt": b"x"}
    before = set(tmp_path.iterdir())
    found = find_labelled(zipped(tmp_path / "things.zip", files))
    same(found, find_labelled(folder))
    assert set(tmp_path.iterdir()) == before | {tmp_path / "things.zip"}
    assert [(str(s.path), s.reason) for s in found.skipped] == [
        (str(tmp_path / "things.zip/mug/notes.txt"), "not a photo")
    ]
    assert place_of(found.paths[0]) == tmp_path / "things.zip/keys/00.png"
    assert file_of(found.paths[0]) is None


def test_what_an_archive_holds_is_told_by_content_as_in_a_folder(
    folder: Path, tmp_path: Path
) -> None:
    photo = (folder / "mug/00.png").read_bytes()
    names = ("mug/a", "mug/b.PNG", "mug/c.mpo", "keys/d.pjpeg", "keys/e.xyz")
    others = {"mug/f": b"text", "mug/g.dng": photo, "keys/Thumbs.db": photo, "keys/h.part": photo}
    found = find_labelled(zipped(tmp_path / "a.zip", dict.fromkeys(names, photo) | others))
    places = sorted(str(place_of(path).relative_to(tmp_path / "a.zip")) for path in found.paths)
    assert places == sorted(names)
    assert {s.path.name: s.reason for s in found.skipped} == {
        "f": "not a photo",
        "g.dng": "raw data of a camera: export it as JPEG",
        "h.part": "not a photo",
    }


def test_the_parts_of_a_data_set_are_no_classes_in_an_archive_either(
    folder: Path, tmp_path: Path
) -> None:
    files = {f"{p}/{name}": d for p in ("test", "train") for name, d in contents(folder).items()}
    with pytest.raises(FewshotError, match="parts of a data set") as caught:
        find_labelled(zipped(tmp_path / "a.zip", files))
    assert "Unpack the archive and give the folder train, e.g.," in str(caught.value)
    toys = {"train/a.png": b"x", "test/b.png": b"x"}
    assert find_labelled(zipped(tmp_path / "b.zip", toys)).class_names == ("test", "train")


def test_archives_cannot_lead_out_or_fill_the_memory(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = (folder / "mug/00.png").read_bytes()
    evil = {"../mug/a.png": photo, "/etc/b.png": photo, "mug/../../c.png": photo}
    path = zipped(tmp_path / "evil.zip", evil | {"mug/ok.png": photo, "keys/bomb.png": b"0" * 9999})
    found = find_labelled(path)
    assert found.class_names == ("keys", "mug")
    assert {s.reason for s in found.skipped} == {"a name that leads out of the archive"}
    assert len(found.skipped) == len(evil)
    with pytest.raises(FewshotError, match=r"photos \(.*/\.\./mug/a.png: a name that leads out"):
        find_labelled(zipped(tmp_path / "out.zip", {"../mug/a.png": photo}))
    monkeypatch.setattr(archives, "MOST_BYTES", 5000)
    with pytest.raises(PhotoError, match="larger than"):
        load_square(found.paths[0], SIZE)
    found.paths[0].member.file_size = 10  # type: ignore[union-attr]  # as a liar's would be
    with pytest.raises(PhotoError, match="damaged in the archive"):
        load_square(found.paths[0], SIZE)
    assert load_square(found.paths[1], SIZE).shape == (SIZE, SIZE, 3)


def test_archives_that_would_take_for_ever(tmp_path: Path) -> None:
    """Of some kilobytes: thousands of folders around all, terabytes within, as many classes."""
    deep = zipped(tmp_path / "deep.zip", {"a/" * 5000 + f"{k}/a.jpg": b"" for k in range(9)})
    with pytest.raises(FewshotError, match=r"deep\.zip: names longer than any system takes"):
        find_labelled(deep)
    zeros = zipped(tmp_path / "zeros.zip", {f"{k}/a.jpg": bytes(1_000_000) for k in range(9)})
    data = bytearray(zeros.read_bytes())
    place = data.index(b"PK\1\2")
    data[place + 24 : place + 28] = b"\xff\xff\xff\x7f"  # bytes unpacked, as it is claimed
    zeros.write_bytes(data)
    with pytest.raises(FewshotError, match=r"zeros\.zip: unpacks to more than 100 times its size"):
        find_labelled(zeros)
    around = {"a/" * 500 + f"{k % 900}/{k}.jpg": b"" for k in range(1800)}
    start = time.process_time()
    assert len(find_labelled(zipped(tmp_path / "around.zip", around)).class_names) == 900
    assert time.process_time() - start < 5


def test_a_table_is_not_read_for_ever(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    with path.open("wb") as file:
        file.truncate(30_000_000_000)  # takes no room on the disk
    with pytest.raises(FewshotError, match=r"table\.csv: larger than 100 MB"):
        find_labelled(folder, path)


def test_archives_that_are_none_or_damaged(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a file, not a folder, and no ZIP"):
        find_labelled(folder / "mug/00.png")
    with pytest.raises(FewshotError, match="no class folders with photos"):
        find_labelled(zipped(tmp_path / "flat.zip", {"a.png": b"", "b.png": b""}))
    with pytest.raises(FewshotError, match="differ only in case"):
        find_labelled(zipped(tmp_path / "case.zip", {"Mug/a.png": b"", "mug/b.png": b""}))
    path = zipped(tmp_path / "cut.zip", contents(folder))
    data = bytearray(path.read_bytes())
    place = data.index(b"IDAT") if b"IDAT" in data else 60
    data[place : place + 20] = b"\0" * 20
    path.write_bytes(bytes(data))
    problems = decode_pixels(find_labelled(path).paths, SIZE)[1]
    assert all("\n" not in reason for reason in problems.values())
    assert problems


@pytest.mark.parametrize(
    "text",
    [
        "keys/00.png,keys\nkeys/01.png,keys\nmug/00.png,mug\nmug/01.png,mug\nmug/02.png,mug\n",
        "file,label\r\nkeys/00.png,keys\r\nkeys/01.png,keys\r\n\r\n"
        "mug/00.png,mug\r\nmug/01.png,mug\r\nmug/02.png,mug",
        "﻿Class;Size;Filename\nkeys;1;keys/00.png\nkeys;2;keys/01.png\n"
        "mug;3;mug/00.png\nmug;4;mug/01.png\nmug;5; mug/02.png \n",
        '"file";"label"\n"keys\\00.png";"keys"\n".\\keys\\01.png";keys\n'
        'mug\\00.png;"mug"\nmug/01.png;mug\nmug/02.png;mug\n',
        "file\tlabel\tx\ty\tw\th\nkeys/00.png\tkeys\t\t\t\t\nkeys/01.png\tkeys\t0\t0\t32\t32\n"
        "mug/00.png\tmug\t\t\t\t\nmug/01.png\tmug\t\t\t\t\nmug/02.png\tmug\t-5\t-5\t99\t99\n",
    ],
)
def test_a_table_is_class_folders(folder: Path, tmp_path: Path, text: str) -> None:
    found = find_labelled(folder, table(tmp_path / "labels.csv", text))
    same(found, find_labelled(folder))


@pytest.mark.skipif(os.name == "nt", reason="no such names")
def test_files_of_a_table_may_have_absolute_paths_and_odd_names(
    folder: Path, tmp_path: Path
) -> None:
    odd = folder / "mug" / 'a, "b"\\c.png'
    (folder / "mug" / "00.png").rename(odd)
    text = f'{folder / "keys/00.png"},keys\n"mug/a, ""b""\\c.png",mug\n'
    found = find_labelled(folder, table(tmp_path / "labels.csv", text))
    assert found.paths == (folder / "keys/00.png", odd)
    assert not decode_pixels(found.paths, SIZE)[1]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_tables_in_every_encoding_that_says_so(folder: Path, tmp_path: Path, encoding: str) -> None:
    mark = "\ufeff" if encoding.endswith("e") else ""
    text = f"{mark}file\tlabel\nkeys/00.png\tSchlüssel\nmug/00.png\tTasse\n"
    found = find_labelled(folder, table(tmp_path / "labels.csv", text, encoding))
    assert found.class_names == ("Schlüssel", "Tasse")


def test_boxes_may_be_corners_beside_the_size_of_the_photo(folder: Path, tmp_path: Path) -> None:
    rows = (
        "filename,width,height,class,xmin,ymin,xmax,ymax,split\n"
        "mug/00.png,32,32,mug,4,5,20,30,train\nkeys/00.png,32,32,keys,,,,,train\n"
    )
    found = find_labelled(folder, table(tmp_path / "labels.csv", rows))
    assert found.paths == (Region(folder / "mug/00.png", (4, 5, 16, 25)), folder / "keys/00.png")


def test_boxes_are_regions_of_photos(folder: Path, tmp_path: Path) -> None:
    rows = "mug/00.png,mug,0,0,10,10\nmug/00.png,keys,20,20,12,8\n"
    found = find_labelled(folder, table(tmp_path / "labels.csv", rows))
    assert found.paths[1] == Region(folder / "mug/00.png", (20, 20, 12, 8))
    with Image.open(folder / "mug/00.png") as image:
        expected = np.asarray(image.convert("RGB").crop((20, 18, 32, 30)).resize((12, 12)))
    assert np.array_equal(load_square(found.paths[1], 12), expected)
    assert file_of(found.paths[1]) == folder / "mug/00.png"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "labels.csv: no rows"),
        ("file,label\n", "labels.csv: no rows"),
        ("a.png\n", "line 1: 1 columns. Give file,label or"),
        ("a.png,mug,1\n", "line 1: 3 columns"),
        ("file,label\na.png\n", "line 2: 1 columns"),
        ("a.png,mug\n,mug\n", "line 2: no file"),
        ("a.png, \n", "line 1: no label"),
        ("a.png,mug,1,2,3,x\n", r"line 1: box 1,2,3,x: give x,y,w,h"),
        ("a.png,mug,1,2,0,5\n", r"line 1: box 1,2,0,5: give"),
        ("a.png,mug,1,,3,4\n", r"line 1: box 1,,3,4: give"),
        ("a.png,Mug\nb.png,mug\n", "line 2: 'mug' and 'Mug' differ only in case"),
        ("a.png,caf\u00e9\nb.png,cafe\u0301\n", "line 2: .* differ only in"),
        ("a.png,tea cup\nb.png,tea  cup\n", "line 2: .* differ only in"),
        ("a.png,\u200b\n", "line 1: no label"),
        ("a.png,mug\nb.png,\u202egum\n", "line 2: .*Take control characters and marks"),
        ('a.png,mug\nb.png,"two\nlines"\n', r"line 3: 'two\\nlines'. Take control"),
        ("a.png,\x1b[2J\n", "line 1: .*Take control"),
        ("a.png,mug\nb.png,keys\n", r"none of its files is there, e.g. .*a.png. Paths in it begin"),
        ("a" * 999 + ".png,mug\n", "none of its files is there"),
        (
            "split,file,label\ntrain,a.png,mug\ntest,b.png,keys\n",
            r"several parts .*\(test, train\)",
        ),
        ("file,label,x1,y1,x2,y2\na.png,mug,5,5,5,9\n", "line 2: box 5.0,5.0,0.0,4.0: give"),
    ],
)
def test_tables_that_will_not_do(folder: Path, tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(FewshotError, match=message):
        find_labelled(folder, table(tmp_path / "labels.csv", text))


def test_tables_that_cannot_be_read(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FewshotError, match="not UTF-8 text"):
        find_labelled(folder, table(tmp_path / "l.csv", "a.png,Schlüssel\n", "latin-1"))
    with pytest.raises(UsageError, match=r"--labels .*none.csv: no such file"):
        find_labelled(folder, tmp_path / "none.csv")
    with pytest.raises(UsageError, match=r"--labels .*: a folder, not a file"):
        find_labelled(folder, folder)
    with pytest.raises(UsageError, match="no such folder"):
        find_labelled(tmp_path / "none", tmp_path / "none.csv")


def test_what_is_wrong_is_found_in_tables_and_archives_too(folder: Path, tmp_path: Path) -> None:
    rows = "keys/00.png,keys\nkeys/00.png,mug\nkeys/none.png,keys\nmug/00.png,mug\n"
    found = check(folder, SIZE, labels=table(tmp_path / "labels.csv", rows))
    kinds = {finding.kind: finding for finding in found}
    assert kinds["skipped"].paths == (folder / "keys/none.png",)
    assert kinds["two-labels"].paths == (folder / "keys/00.png",) * 2
    archive = zipped(tmp_path / "a.zip", contents(folder) | {"mug/x.png": b"text"})
    (skipped,) = (finding for finding in check(archive, SIZE) if finding.kind == "skipped")
    assert skipped.paths == (archive / "mug/x.png",)
    assert skipped.classes == ("mug",)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_regions_are_of_the_photo_as_it_is_seen(
    tmp_path: Path, picture: Image.Image, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = picture.resize((96, 80))
    picture.save(tmp_path / "turned.png", exif=exif)
    upright = ImageOps.exif_transpose(Image.open(tmp_path / "turned.png"))
    part = np.asarray(upright.crop((10, 40, 40, 70)))
    found = load_square(Region(tmp_path / "turned.png", (10, 40, 30, 30)), 30)
    assert np.array_equal(found, part)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((10, 10, 20, 20), (10, 10, 30, 30)),
        ((10, 10, 20, 10), (10, 5, 30, 25)),
        ((0, 0, 20, 10), (0, 0, 20, 20)),
        ((80, 40, 20, 10), (80, 30, 100, 50)),
        ((-50, -50, 500, 500), (0, 0, 100, 50)),
        ((0, 20, 100, 4), (0, 0, 100, 50)),
        ((100, 10, 20, 20), None),
        ((10, 10, 0.2, 9), None),
    ],
)
def test_the_square_around_a_box_lies_in_the_photo(
    box: tuple[float, float, float, float], expected: tuple[int, ...] | None
) -> None:
    assert square_around(box, 100, 50) == expected


def test_a_box_outside_is_a_problem_of_its_photo(folder: Path) -> None:
    with pytest.raises(PhotoError, match="the box lies outside of the photo, 32 x 32"):
        load_square(Region(folder / "mug/00.png", (40, 0, 5, 5)), SIZE)
    with pytest.raises(UsageError, match=r"box 1,2,3: give x,y,w,h"):
        as_box([1, 2, 3])
