"""The demo: photos drawn, some kept back, and no folder of anybody else's touched."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from fewshot_lite.core.errors import UsageError
from fewshot_lite.core.intervals import wilson_interval
from fewshot_lite.demo.drawings import write_folder
from fewshot_lite.demo.run import run_demo
from fewshot_lite.personal.personal_model import PersonalModel
from photos import contents, tiny_model


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base") / "tiny.safetensors"
    tiny_model().save(path)
    return path


@pytest.fixture(autouse=True)
def _few_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fewshot_lite.demo.run.KINDS", ("key", "leaf"))
    small = functools.partial(write_folder, size=64)
    monkeypatch.setattr("fewshot_lite.demo.run.write_folder", small)


def test_the_demo_adapts_on_some_drawings_and_names_the_others(base: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int | None, str]] = []
    result = run_demo(
        tmp_path / "demo",
        base=base,
        per_kind=2,
        held_back=3,
        on_done=lambda *where: told.append(where),
    )
    ends = {what: (done, total) for done, total, what in told}
    assert ends == {
        "Loading the model": (0, None),
        "Drawing": (10, 10),
        "Reading photos": (4, 4),
        "Adapting": (4, 4),
        "Classifying": (6, 6),
    }
    assert result.classes == ("key", "leaf")
    assert (result.adapted_on, result.total) == (4, 6)
    assert len(list(result.photos.glob("*/*.jpg"))) == 4
    held_back = sorted(result.held_back.glob("*/*.jpg"))
    assert len(held_back) == 6
    assert not {p.name for p in held_back} & {p.name for p in result.photos.glob("*/*.jpg")}
    assert result.correct == 6 - len(result.mistakes)
    assert result.accuracy == result.correct / 6
    assert result.interval == wilson_interval(result.correct, 6)
    answers = PersonalModel.load(result.model).classify(held_back)
    wrong = [
        (p, a.label) for p, a in zip(held_back, answers, strict=True) if a.label != p.parent.name
    ]
    assert list(result.mistakes) == wrong


@pytest.mark.slow
def test_the_same_seed_draws_the_same_and_force_draws_anew(base: Path, tmp_path: Path) -> None:
    def drawn(seed: int, *, force: bool) -> dict[str, bytes]:
        run_demo(tmp_path / "demo", base=base, per_kind=1, held_back=1, seed=seed, force=force)
        files = contents(tmp_path / "demo")
        assert len(files) == 5
        return {name: data for name, data in files.items() if name.endswith(".jpg")}

    first = drawn(0, force=False)
    with pytest.raises(UsageError, match=r"exists already.*--force"):
        drawn(0, force=False)
    assert drawn(0, force=True) == first
    assert drawn(1, force=True) != first


def test_an_empty_folder_will_do(base: Path, tmp_path: Path) -> None:
    run_demo(tmp_path, base=base, per_kind=1, held_back=1)
    assert (tmp_path / "personal.safetensors").exists()


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_with_other_things_is_left_alone(base: Path, tmp_path: Path, force: bool) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.jpg").write_text("precious")
    (tmp_path / "thesis.tex").write_text("precious")
    before = contents(tmp_path)
    with pytest.raises(
        UsageError, match=r"holds .(thesis\.tex|photos.mine\.jpg)., which is not the demo's"
    ):
        run_demo(tmp_path, base=base, force=force)
    assert contents(tmp_path) == before


@pytest.mark.slow
def test_a_place_that_cannot_be_made_is_named(base: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    for name, message in [
        ("file", "a file. Give the name of a new folder"),
        ("nowhere/demo", "there is no folder .*nowhere. Create it first"),
        ("file/demo", "file is a file, not a folder"),
    ]:
        with pytest.raises(UsageError, match=message):
            run_demo(tmp_path / name, base=base)
    assert contents(tmp_path) == {"file": b"text"}


@pytest.mark.parametrize("number", ["per_kind", "held_back"])
def test_no_drawings_are_refused(tmp_path: Path, number: str) -> None:
    with pytest.raises(UsageError, match=rf"{number} 0: must be at least 1"):
        run_demo(str(tmp_path / "demo"), **{number: 0})
    assert not (tmp_path / "demo").exists()


def test_a_bad_base_leaves_no_folder(base: Path, tmp_path: Path) -> None:
    personal = tiny_model().adapt(run_demo_photos(base, tmp_path)).save(tmp_path / "mine")
    before = contents(tmp_path)
    with pytest.raises(UsageError, match="a personal model"):
        run_demo(tmp_path / "new", base=personal)
    assert not (tmp_path / "new").exists()
    assert contents(tmp_path) == before


def run_demo_photos(base: Path, folder: Path) -> Path:
    return run_demo(folder / "demo", base=base, per_kind=1, held_back=1).photos


def test_photos_of_ones_own_in_the_demos_folders_are_not_deleted(
    base: Path, tmp_path: Path
) -> None:
    photos = run_demo_photos(base, tmp_path)
    (photos / "key" / "my_own.jpg").write_text("precious")
    with pytest.raises(UsageError, match=r"my_own\.jpg.*not the demo's"):
        run_demo(tmp_path / "demo", base=base, per_kind=1, held_back=1, force=True)
    assert (photos / "key" / "my_own.jpg").read_text() == "precious"
