"""`fewshot-lite data check`: the format is recognised, faults are named, the exit code tells."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewshot_lite.cli import app as cli
from fewshot_lite.cli.render import terminal as render
from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.published.check import check_data
from fewshot_lite.published.vtab.catalogue import TASKS
from photos import draw_classes
from vtab_files import flat, write_all, write_cifar100, write_eurosat, write_lists

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """The program in this process: exit code, stdout, stderr."""

    def run(*words: object) -> tuple[int, str, str]:
        streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2)]
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", streams[0])
            patch.setattr(sys, "stderr", streams[1])
            patch.setattr(sys, "argv", ["fewshot-lite", *map(str, words)])
            patch.setattr(render, "out", render._console(stderr=False))
            patch.setattr(render, "err", render._console(stderr=True))
            with pytest.raises(SystemExit) as ended:
                cli.main()
        out, err = (stream.buffer.getvalue().decode() for stream in streams)  # type: ignore[attr-defined]
        return int(ended.value.code or 0), out, err

    return run


def test_class_folders(tmp_path: Path, run: Run) -> None:
    draw_classes(tmp_path, {"mug": 3, "keys": 2})
    flat(tmp_path / "mug/wide.png", 3, size=(400, 300))
    code, out, err = run("data", "check", tmp_path)
    assert code == 0
    assert err == ""
    assert f"{tmp_path}: image folder" in out
    assert re.search(r"test_class_folders0 +2 +6 +32 x 32 to 400 x 300", out)
    assert "2 to 4 images a class" in out
    draw_classes(tmp_path / "even", {"mug": 3, "keys": 3})
    assert "even: 3 images a class." in run("data", "check", tmp_path / "even")[1]


def test_class_folders_with_faults(tmp_path: Path, run: Run) -> None:
    draw_classes(tmp_path, {"mug": 3, "keys": 2, "pen": 1})
    (tmp_path / "mug/broken.jpg").write_bytes(b"no photo")
    (tmp_path / "mug/notes.txt").write_text("hello")
    (tmp_path / "glasses").mkdir()
    code, out, err = run("data", "check", tmp_path, "--json")
    assert code == 1
    summary = json.loads(out)
    assert summary["format"] == "image folder"
    assert summary["data_sets"][0]["classes"] == 4
    assert summary["problems"] == [
        f"{tmp_path / 'mug/broken.jpg'}: not an image, or badly damaged.",
        f"{tmp_path}: no photos in 'glasses'. Add some, or remove the folders.",
    ]
    assert any("one image in 'pen'" in note for note in summary["notes"])
    assert any("notes.txt: skipped" in note for note in summary["notes"])
    assert err == ""


def test_a_collection(tmp_path: Path) -> None:
    draw_classes(tmp_path / "kitchen", {"mug": 2, "pan": 2})
    draw_classes(tmp_path / "desk", {"pen": 3, "keys": 2, "lamp": 2})
    summary = check_data(tmp_path)
    assert summary.format == "collection of image folders"
    found = [(row.name, row.classes, row.images) for row in summary.data_sets]
    assert found == [("desk", 3, 7), ("kitchen", 2, 4)]
    assert not summary.problems


def test_one_class_is_too_few(tmp_path: Path) -> None:
    draw_classes(tmp_path, {"mug": 2})
    assert any("fewer than 2 classes" in problem for problem in check_data(tmp_path).problems)


def test_many_broken_files_are_counted(tmp_path: Path) -> None:
    draw_classes(tmp_path, {"mug": 2, "keys": 2})
    for number in range(8):
        (tmp_path / f"mug/broken{number}.jpg").write_bytes(b"")
    problems = check_data(tmp_path).problems
    assert len(problems) == 6
    assert "broken0.jpg: empty file" in problems[0]
    assert problems[-1] == "3 more files cannot be read."


def test_all_of_vtab(tmp_path: Path) -> None:
    write_all(tmp_path)
    summary = check_data(tmp_path)
    assert summary.format == "VTAB-v2"
    assert [row.name for row in summary.data_sets] == [task.name for task in TASKS]
    assert summary.notes[0].startswith(
        "18 of 18 tasks: natural 6 of 6, specialized 4 of 4, structured 8 of 8."
    )
    rows = {row.name: row for row in summary.data_sets}
    assert rows["retinopathy"].splits == (("train", 20), ("val", 5), ("test", 15))
    assert rows["retinopathy"].sizes == ((24, 16), (24, 16))
    assert rows["cifar100"].sizes == ((32, 32), (32, 32))
    # Tiny files are not the published sets, and that is said.
    assert any("4 classes; cifar100 has 100." in problem for problem in summary.problems)
    assert any("40 training images; cifar100 takes 1,000" in p for p in summary.problems)


def test_part_of_vtab(tmp_path: Path, run: Run) -> None:
    write_lists(tmp_path, "kitti", [n % 4 for n in range(1000)], [0, 1, 2, 3])
    code, out, err = run("data", "check", tmp_path)
    assert (code, err) == (0, "")
    assert f"{tmp_path}: VTAB-v2" in out
    assert "1 of 18 tasks: natural 0 of 6, specialized 0 of 4, structured 1 of 8." in out
    assert "svhn: not there. From http://ufldl.stanford.edu/housenumbers/" in out
    assert "as svhn/ with train_32x32.mat, test_32x32.mat" in out

    Path(tmp_path / "kitti/images/test/000000.jpg").unlink()
    write_cifar100(tmp_path)
    (tmp_path / "cifar-100-binary/fine_label_names.txt").unlink()
    code, out, err = run("data", "check", tmp_path)
    assert code == 1
    assert "000000.jpg: no such file." in err
    assert "cifar-100-binary: lacks fine_label_names.txt." in err


def test_a_damaged_task_does_not_hide_the_others(tmp_path: Path) -> None:
    write_eurosat(tmp_path)
    write_cifar100(tmp_path)
    (tmp_path / "cifar-100-binary/train.bin").write_bytes(b"123")
    summary = check_data(tmp_path)
    assert [row.name for row in summary.data_sets] == ["eurosat"]
    assert any("train.bin: damaged" in problem for problem in summary.problems)


def test_orbit(tmp_path: Path) -> None:
    for thing in ("mug", "keys"):
        for kind in ("clean", "clutter"):
            video = f"P001--{thing}--{kind}--x"
            for frame in range(1, 3):
                path = tmp_path / "test/P001" / thing / kind / video / f"{video}-{frame:05d}.jpg"
                flat(path, 90, size=(30, 30))
    summary = check_data(tmp_path)
    assert summary.format == "ORBIT"
    assert summary.data_sets[0].images == 8


def test_meta_dataset(tmp_path: Path) -> None:
    folder = tmp_path / "aircraft"
    folder.mkdir()
    spec = {
        "name": "aircraft",
        "images_per_class": {"0": 1, "1": 1, "2": 1},
        "classes_per_split": {"TRAIN": 1, "VALID": 1, "TEST": 1},
        "class_names": {"0": "707", "1": "727", "2": "737"},
        "path": "",
        "file_pattern": "{}.tfrecords",
        "__class__": "DatasetSpecification",
    }
    (folder / "dataset_spec.json").write_text(json.dumps(spec))
    summary = check_data(tmp_path)
    assert summary.format == "Meta-Dataset"
    assert summary.problems  # its class files are not there


def test_nothing_that_is_known(tmp_path: Path, run: Run) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        check_data(tmp_path / "nowhere")
    with pytest.raises(FewshotError, match=r"Nor is it a folder of Meta-Dataset, ORBIT or VTAB"):
        check_data(tmp_path)
    code, _, err = run("data", "check", tmp_path / "nowhere")
    assert code == 2
    assert "no such folder" in err
    code, _, err = run("data", "check", "")
    assert code == 2
    assert "PATH is an empty word" in err


def test_names_cannot_format_the_output(tmp_path: Path, run: Run) -> None:
    draw_classes(tmp_path / "[bold]odd[/]", {"mug": 2, "keys": 2})
    _, out, _ = run("data", "check", tmp_path / "[bold]odd[/]")
    assert "[bold]odd[/]: image folder" in out


def test_help_does_without_torch() -> None:
    program = (
        "import sys; from fewshot_lite.cli import app as cli\n"
        "sys.argv = ['x', 'data', 'check', '--help']\n"
        "try: cli.main()\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'torch', 'scipy', 'h5py'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Recognise the format" in done.stdout


def test_a_photo_with_odd_metadata_is_no_problem(tmp_path: Path) -> None:
    draw_classes(tmp_path, {"mug": 2, "keys": 2})
    Image.fromarray(np.zeros((5, 5), dtype=np.uint16)).save(tmp_path / "mug/deep.png")
    assert not check_data(tmp_path).problems


def test_a_long_list_of_data_sets_is_cut(tmp_path: Path, run: Run) -> None:
    for number in range(45):
        draw_classes(tmp_path / f"set {number:02d}", {"mug": 2, "keys": 2})
    _, out, _ = run("data", "check", tmp_path)
    assert "set 39 " in out
    assert "set 40 " not in out
    assert "… and 5 more data sets; --json lists all." in out
