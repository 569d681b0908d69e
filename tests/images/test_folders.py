"""Folders of people's photos: what is a class, what is named as left out, what is refused."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image, features

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.images.folders import (
    ImageFolder,
    is_system_name,
    require_folder,
    scan_classes,
    scan_collection,
    scan_collections,
    subfolders,
    walk_photos,
)
from fewshot_lite.images.kinds import RAW_DATA, why_no_photo

Tree = Callable[..., Path]

as_a_person = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all"
)


def found(data: ImageFolder) -> dict[str, list[str]]:
    """Class name -> its photos, relative to the folder."""
    return {
        name: [data.paths[i].relative_to(data.root).as_posix() for i in indices]
        for name, indices in zip(data.class_names, data.indices_by_class(), strict=True)
    }


def skipped(data: ImageFolder) -> dict[str, str]:
    """Skipped file, relative to the folder -> the reason."""
    return {item.path.relative_to(data.root).as_posix(): item.reason for item in data.skipped}


@contextmanager
def locked(folder: Path, mode: int = 0) -> Iterator[None]:
    folder.chmod(mode)
    try:
        yield
    finally:
        folder.chmod(0o700)  # or pytest could not remove it


# An image folder


def test_each_folder_is_a_class_and_all_is_in_alphabetical_order(tree: Tree) -> None:
    root = tree("mug/b.jpg", "keys/z.jpg", "mug/a.jpg", "keys/y.jpg", "bag/x.jpg")
    data = scan_classes(root)
    assert data.class_names == ("bag", "keys", "mug")
    assert [path.name for path in data.paths] == ["x.jpg", "y.jpg", "z.jpg", "a.jpg", "b.jpg"]
    assert data.labels == (0, 1, 1, 2, 2)
    assert data.skipped == ()
    assert (data.name, data.root) == (root.name, root)
    assert scan_classes(root) == data


def test_the_data_set_takes_its_name_from_the_folder_unless_given(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree("things/mug/a.jpg")
    assert scan_classes(root, "mine").name == "mine"
    monkeypatch.chdir(root / "things")
    assert scan_classes(Path()).name == "things"


def test_indices_by_class_and_select_renumber_the_classes(tree: Tree) -> None:
    data = scan_classes(tree("a/1.jpg", "b/1.jpg", "b/2.jpg", "c/", "d/1.jpg", "d/notes.txt"))
    assert data.indices_by_class() == [[0], [1, 2], [], [3]]
    some = data.select({"d", "b", "unheard of"})
    assert found(some) == {"b": ["b/1.jpg", "b/2.jpg"], "d": ["d/1.jpg"]}
    assert some.labels == (0, 0, 1)
    assert some.skipped == data.skipped
    assert data.select(set()).paths == ()


def test_photos_in_folders_within_a_class_folder_are_found(tree: Tree) -> None:
    data = scan_classes(tree("mug/b.jpg", "mug/2024/june/c.jpg", "mug/a.jpg", "keys/x.jpg"))
    assert found(data) == {
        "keys": ["keys/x.jpg"],
        "mug": ["mug/2024/june/c.jpg", "mug/a.jpg", "mug/b.jpg"],
    }


def test_endings_count_in_any_case_and_a_folder_may_have_one(tree: Tree) -> None:
    names = ["A.JPG", "B.Jpeg", "C.HEIC", "D.webp", "E.TIFF", "F.jpg/inside.PNG"]
    data = scan_classes(tree(*(f"mug/{name}" for name in names)))
    assert found(data) == {"mug": [f"mug/{name}" for name in names]}


@pytest.mark.parametrize("name", ["a.mpo", "a.pjpeg", "a.jps", "IMG_0001", "a.jpg.bak", "a.JPG_1"])
def test_a_photo_is_known_by_its_content_whatever_its_ending(
    picture: Image.Image, tree: Tree, name: str
) -> None:
    root = tree("mug/notes.txt", "keys/x.jpg")
    picture.save(root / "mug" / name, "MPO" if name == "a.mpo" else "JPEG")
    assert found(scan_classes(root))["mug"] == [f"mug/{name}"]
    assert skipped(scan_classes(root)) == {"mug/notes.txt": "not a photo"}


@pytest.mark.parametrize("format", ["PNG", "WEBP", "GIF", "TIFF", "BMP", "JPEG2000", "AVIF"])
def test_every_format_with_a_signature_is_known_by_it(
    picture: Image.Image, tree: Tree, format: str
) -> None:
    if format == "AVIF" and not features.check("avif"):
        pytest.skip("Pillow without AVIF")
    root = tree("mug/a.jpg")
    picture.save(root / "mug" / "b", format)
    assert why_no_photo(root / "mug" / "b") is None


@pytest.mark.parametrize(
    ("name", "reason"),
    [("a.jpg.part", "not a photo"), ("a.tmp", "not a photo")]
    + [(f"a{end}", RAW_DATA) for end in (".dng", ".NEF", ".Cr2", ".cr3", ".RAF")],
)
def test_what_begins_like_a_photo_and_is_none_is_not_read(
    picture: Image.Image, tree: Tree, name: str, reason: str
) -> None:
    root = tree("mug/a.jpg")
    picture.save(root / "mug" / name, "TIFF")
    assert skipped(scan_classes(root)) == {f"mug/{name}": reason}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_among_the_photos_is_not_waited_for(tree: Tree) -> None:
    root = tree("mug/a.jpg")
    os.mkfifo(root / "mug" / "pipe")
    assert skipped(scan_classes(root)) == {"mug/pipe": "not a photo"}


def test_hidden_and_system_files_and_folders_are_passed_over(tree: Tree) -> None:
    data = scan_classes(
        tree(
            "mug/a.jpg",
            *("mug/.DS_Store", "mug/Thumbs.db", "mug/desktop.ini", "mug/._a.jpg", "mug/Icon\r"),
            *("mug/@eaDir/a.jpg", "mug/.thumbnails/a.jpg"),
            *(".git/a.jpg", "@eaDir/a.jpg", "__MACOSX/mug/a.jpg", ".DS_Store"),
            *("$RECYCLE.BIN/a.jpg", "System Volume Information/a.jpg", "lost+found/"),
        )
    )
    assert found(data) == {"mug": ["mug/a.jpg"]}
    assert data.skipped == ()


@pytest.mark.parametrize("name", [".hidden", "._a.jpg", "THUMBS.DB", "@eaDir", "$Recycle.Bin"])
def test_system_names_are_known_in_any_case(name: str) -> None:
    assert is_system_name(name)
    assert not is_system_name("my " + name)


def test_what_is_no_photo_or_lies_beside_the_classes_is_named(tree: Tree) -> None:
    root = tree("mug/a.jpg", "mug/notes.txt", "mug/film.mov", "mug/raw", "stray.jpg", "list.csv")
    assert skipped(scan_classes(root)) == {
        "list.csv": "not inside a class folder",
        "stray.jpg": "not inside a class folder",
        "mug/film.mov": "not a photo",
        "mug/notes.txt": "not a photo",
        "mug/raw": "not a photo",
    }


def test_an_empty_class_folder_is_a_class_without_photos(tree: Tree) -> None:
    assert found(scan_classes(tree("mug/a.jpg", "keys/"))) == {"keys": [], "mug": ["mug/a.jpg"]}


@pytest.mark.parametrize(
    "name", ["my mug", "Schlüssel", "☕ mug 👨‍👩‍👧", "%s {x} [red]", "Köln 'n' 5\""]
)
def test_names_are_kept_as_they_are(tree: Tree, name: str) -> None:
    data = scan_classes(tree(f"{name}/ä b.jpg"))
    assert found(data) == {name: [f"{name}/ä b.jpg"]}


@pytest.mark.parametrize(
    "names", [("Mug", "mug"), ("ÄPFEL", "äpfel"), ("Käfer", "Ka\u0308fer"), ("mug", "mug ")]
)
def test_class_names_that_look_alike_are_refused(tree: Tree, names: tuple[str, str]) -> None:
    root = tree(*(f"{name}/a.jpg" for name in names))
    if len(subfolders(root)) == 1:
        pytest.skip("this file system takes the two names for one")
    with pytest.raises(FewshotError, match="differ only in case") as caught:
        scan_classes(root)
    assert all(repr(name) in str(caught.value) for name in names)


def test_class_names_that_only_begin_alike_are_different(tree: Tree) -> None:
    names = scan_classes(tree("Masse/a.jpg", "Maße/a.jpg", "Mas/a.jpg")).class_names
    assert names == ("Mas", "Masse", "Maße")


def test_a_class_name_that_cannot_be_written_is_refused(tree: Tree) -> None:
    root = tree("mug/a.jpg")
    try:
        os.mkdir(os.fsencode(root) + b"/K\xe4fer")  # noqa: PTH102, a path cannot name it
    except OSError:
        pytest.skip("this file system takes Unicode names only")
    with pytest.raises(FewshotError, match="not valid Unicode") as caught:
        scan_classes(root)
    str(caught.value).encode()


# One level too high


@pytest.mark.parametrize(
    "names",
    [
        ("train", "val", "test"),
        ("Training", "Validation"),
        ("val2017", "train2017"),
        ("test_set", "train set"),
        ("eval", "images_train"),
        ("held-out", "Train"),
        ("tst", "trn"),
        ("query", "support"),
    ],
)
def test_the_parts_of_a_data_set_are_no_classes(tree: Tree, names: tuple[str, ...]) -> None:
    root = tree(*(f"{part}/{name}/a.jpg" for part in names for name in ("mug", "keys")))
    with pytest.raises(FewshotError, match="are the parts of a data set") as caught:
        scan_classes(root)
    first = next(name for name in names if "tr" in name.lower() or name == "support")
    assert f"Give {root / first}, e.g." in str(caught.value)


@pytest.mark.parametrize("names", [("train/a.jpg", "test/b.jpg"), ("train/x/a.jpg", "car/x/b.jpg")])
def test_toy_trains_may_be_a_class(tree: Tree, names: tuple[str, ...]) -> None:
    assert len(scan_classes(tree(*names)).paths) == 2


def test_a_folder_one_level_too_high_is_answered_with_the_one_below(tree: Tree) -> None:
    root = tree("my_objects/mug/a.jpg", "my_objects/keys/b.jpg", "readme.txt")
    with pytest.raises(FewshotError, match="one level too high") as caught:
        scan_classes(root)
    assert str(caught.value).endswith(f"Give {root / 'my_objects'}.")


# Links


def test_a_link_to_a_class_folder_is_followed(tree: Tree) -> None:
    root = tree("things/mug/a.jpg", "elsewhere/b.jpg", "elsewhere/more/c.jpg")
    (root / "things" / "keys").symlink_to(root / "elsewhere")
    assert found(scan_classes(root / "things")) == {
        "keys": ["keys/b.jpg", "keys/more/c.jpg"],
        "mug": ["mug/a.jpg"],
    }


def test_a_link_to_a_photo_is_a_photo(tree: Tree) -> None:
    root = tree("things/mug/a.jpg", "b.jpg")
    (root / "things" / "mug" / "c.jpg").symlink_to(root / "b.jpg")
    assert found(scan_classes(root / "things")) == {"mug": ["mug/a.jpg", "mug/c.jpg"]}


@pytest.mark.parametrize("target", ["mug", "mug/deep", "."])
def test_a_link_back_to_a_folder_above_is_named_and_not_followed(tree: Tree, target: str) -> None:
    root = tree("mug/deep/a.jpg", "keys/b.jpg")
    (root / "mug" / "deep" / "back").symlink_to(root / target)
    data = scan_classes(root)
    assert found(data) == {"keys": ["keys/b.jpg"], "mug": ["mug/deep/a.jpg"]}
    assert skipped(data) == {"mug/deep/back": "a link to a folder that contains it"}


def test_links_that_lead_nowhere_are_no_folders(tree: Tree) -> None:
    root = tree("mug/a.jpg")
    (root / "mug" / "gone").symlink_to(root / "nothing")
    (root / "mug" / "itself").symlink_to(root / "mug" / "itself")
    (root / "round").symlink_to(root / "round")
    data = scan_classes(root)
    assert data.class_names == ("mug",)
    assert set(skipped(data)) == {"mug/gone", "mug/itself", "round"}


# Refused


def test_a_missing_folder(tmp_path: Path) -> None:
    for check in (require_folder, scan_classes, scan_collection):
        with pytest.raises(UsageError, match="things: no such folder"):
            check(tmp_path / "things")


def test_a_file_in_place_of_a_folder(tree: Tree) -> None:
    path = tree("things.zip") / "things.zip"
    with pytest.raises(UsageError, match="a file, not a folder"):
        scan_classes(path)


def test_a_name_that_the_system_does_not_take(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="things"):
        require_folder(tmp_path / ("things" * 99))


@pytest.mark.parametrize("names", [(), (".hidden/a.jpg", "@eaDir/a.jpg"), ("notes.txt",)])
def test_a_folder_without_class_folders(tree: Tree, names: tuple[str, ...]) -> None:
    with pytest.raises(FewshotError, match="needs one folder per class"):
        scan_classes(tree(*names))


def test_photos_directly_inside_are_answered_with_how_to_arrange_them(tree: Tree) -> None:
    root = tree("IMG_1.jpg", "IMG_2.jpg", "notes.txt")
    with pytest.raises(FewshotError, match="one folder per class") as caught:
        scan_classes(root)
    assert str(root / "mug" / "IMG_1.jpg") in str(caught.value)


@as_a_person
def test_a_folder_that_may_not_be_read(tree: Tree) -> None:
    root = tree("mug/a.jpg")
    for mode in (0, 0o400):  # with 400 the names can be listed, but nothing be opened
        with locked(root, mode), pytest.raises(UsageError, match="no permission"):
            scan_classes(root)
    with locked(root), pytest.raises(UsageError, match="ermission"):
        require_folder(root / "mug")


@as_a_person
@pytest.mark.parametrize("mode", [0, 0o400])
def test_a_folder_within_that_may_not_be_read_is_named(tree: Tree, mode: int) -> None:
    root = tree("mug/a.jpg", "mug/deep/b.jpg", "keys/c.jpg", "bag/d.jpg")
    with locked(root / "mug" / "deep", mode), locked(root / "bag", mode):
        data = scan_classes(root)
        assert scan_collection(root) == [data]
    assert found(data) == {"bag": [], "keys": ["keys/c.jpg"], "mug": ["mug/a.jpg"]}
    assert skipped(data) == {"bag": "folder cannot be read", "mug/deep": "folder cannot be read"}


@as_a_person
def test_a_link_to_where_one_may_not_look_does_not_hide_the_rest(tree: Tree) -> None:
    root = tree("things/mug/a.jpg", "private/deep/b.jpg")
    (root / "things" / "mug" / "link").symlink_to(root / "private" / "deep")
    with locked(root / "private"):
        data = scan_classes(root / "things")
    assert found(data) == {"mug": ["mug/a.jpg"]}
    assert set(skipped(data)) == {"mug/link"}


# Collections


def test_a_folder_of_image_folders_is_a_collection(tree: Tree) -> None:
    root = tree("birds/tit/a.jpg", "birds/owl/b.jpg", "cars/old/c.jpg", "about.txt", ".git/x/y")
    birds, cars = scan_collection(root)
    assert (birds.name, cars.name) == ("birds", "cars")
    assert found(birds) == {"owl": ["owl/b.jpg"], "tit": ["tit/a.jpg"]}
    assert found(cars) == {"old": ["old/c.jpg"]}


def test_an_image_folder_is_a_data_set_of_its_own(tree: Tree) -> None:
    root = tree("mug/a.jpg", "keys/b.jpg")
    assert scan_collection(root) == [scan_classes(root)]


def test_a_collection_may_have_one_data_set(tree: Tree) -> None:
    root = tree("birds/tit/a.jpg", "birds/owl/b.jpg", "birds/readme.txt")
    (birds,) = scan_collection(root)
    assert birds == scan_classes(root / "birds")
    assert skipped(birds) == {"readme.txt": "not inside a class folder"}


def test_a_class_folder_with_photos_and_folders_makes_no_collection(tree: Tree) -> None:
    root = tree("mug/a.jpg", "mug/june/b.jpg", "keys/july/c.jpg")
    (data,) = scan_collection(root)
    assert found(data) == {"keys": ["keys/july/c.jpg"], "mug": ["mug/a.jpg", "mug/june/b.jpg"]}


def test_an_empty_class_folder_does_not_make_a_collection(tree: Tree) -> None:
    (data,) = scan_collection(tree("mug/a.jpg", "keys/"))
    assert data.class_names == ("keys", "mug")


def test_an_empty_folder_in_a_collection_is_named_not_made_a_class(tree: Tree) -> None:
    root = tree("birds/tit/a.jpg", "birds/owl/b.jpg", "cars/")
    with pytest.raises(FewshotError, match="cars: no class folders"):
        scan_collection(root)


@as_a_person
def test_an_unreadable_folder_in_a_collection_is_named(tree: Tree) -> None:
    root = tree("birds/tit/a.jpg", "birds/owl/b.jpg", "cars/old/c.jpg")
    with locked(root / "cars"), pytest.raises(UsageError, match="cars: no permission"):
        scan_collection(root)


@pytest.mark.parametrize("names", [("mug/", "keys/"), ("birds/tit/", "cars/old/notes.txt")])
def test_no_photos_anywhere(tree: Tree, names: tuple[str, ...]) -> None:
    with pytest.raises(FewshotError, match="no photos in its class folders"):
        scan_collection(tree(*names))


def test_several_folders_are_data_sets_one_after_the_other(tree: Tree) -> None:
    root = tree("all/birds/tit/a.jpg", "all/cars/old/b.jpg", "things/mug/c.jpg", "old/cars/x/d.jpg")
    found = scan_collections([root / "things", root / "all"])
    assert [data.name for data in found] == ["things", "birds", "cars"]
    for twice in ([root / "all", root / "old" / "cars"], [root / "things"] * 2):
        with pytest.raises(UsageError, match=f"{twice[1]}: there is a data set .* Give each once"):
            scan_collections(twice)


# Walking


def test_a_walk_names_files_and_reasons_in_order(tree: Tree) -> None:
    root = tree("b.jpg", "a/z.png", "a/y.txt", ".x.jpg", "c/")
    (root / "c" / "up").symlink_to(root)
    assert [(path.relative_to(root).as_posix(), why) for path, why in walk_photos(root)] == [
        ("a/y.txt", "not a photo"),
        ("a/z.png", None),
        ("b.jpg", None),
        ("c/up", "a link to a folder that contains it"),
    ]


def test_a_walk_goes_down_deeper_than_the_stack(tree: Tree) -> None:
    name = "/".join("d" * 150) + "/a.jpg"
    root, before = tree(name), sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 100)
    try:
        assert list(walk_photos(root)) == [(root / name, None)]
    finally:
        sys.setrecursionlimit(before)


def test_a_walk_asks_the_system_for_one_real_path(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "/".join("d" * 20) + "/a.jpg"
    root, real, asked = tree(name), os.path.realpath, list[str]()
    link = root / "d/d/up"
    link.symlink_to(root / "d")
    monkeypatch.setattr(os.path, "realpath", lambda path: asked.append(str(path)) or real(path))
    apart = real(root / "d/d/d/d")
    assert list(walk_photos(root, leave_out={apart})) == [
        (link, "a link to a folder that contains it")
    ]
    assert asked == [str(root), str(link)]


def test_subfolders_are_the_visible_ones_by_name(tree: Tree) -> None:
    root = tree("b/", "a/", ".c/", "@eaDir/", "file")
    (root / "d").symlink_to(root / "a")
    assert [path.name for path in subfolders(root)] == ["a", "b", "d"]
