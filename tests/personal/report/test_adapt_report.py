"""The page on adapting tells what is wrong, shows the photos, and trusts no name."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch

from fewshot_lite.personal.personal_model import PersonalModel
from fewshot_lite.personal.quality import assess
from fewshot_lite.personal.report.adapting import adapt_page, write_adapt_report
from fewshot_lite.personal.report.reasons import left_out_answers, nearest_photos, typical_photos
from pages import read_page
from photos import SIZE, draw_classes, tiny_model

EVIL = '<script>alert(1)<|script> "x" \u202egnp\x07 & \udcff'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes and all that can be wrong with them."""
    home = draw_classes(tmp_path_factory.mktemp("r") / "my things", {"mug": 5, "keys": 5, "box": 5})
    shutil.copy(home / "mug/00.png", home / "keys/twin.png")
    shutil.copy(home / "mug/01.png", home / "mug/copy.png")
    shutil.copy(home / "mug/02.png", home / "mug" / f"{EVIL}.png")
    (home / "box" / f"broken {EVIL}.jpg").write_text("text")
    one = home / "<b>שלום & co"
    one.mkdir()
    shutil.copy(home / "box/00.png", one / "it's.png")
    return home


@pytest.fixture(scope="module")
def personal(folder: Path) -> PersonalModel:
    return tiny_model().adapt(folder)


def test_the_page_has_all_that_was_found(personal: PersonalModel, folder: Path) -> None:
    page = read_page(adapt_page(personal, model="mine.safetensors"))
    text = page.text
    quality = assess(personal)
    assert quality.accuracy is not None
    assert f"about {100 * quality.accuracy:.0f} will be named right" in text
    for words in (
        "my things",
        "mine.safetensors",
        "The same photo in two classes",
        "The same file twice",
        "Classes with one photo",
        "1 file skipped",
        "not an image, or badly damaged",
        "keys/twin.png",
        "one photo only: nothing to tell by",
    ):
        assert words in text
    assert text.count("In the wrong class?") == len(quality.suspicious)
    assert [picture.size for picture in page.pictures()] == [(SIZE, SIZE)] * len(page.all("img"))
    assert len(page.all("img")) >= len(personal.labels)
    wrong = [a for a, k in zip(left_out_answers(personal), personal.labels.tolist(), strict=True)]
    mistakes = sum(a not in (k, None) for a, k in zip(wrong, personal.labels.tolist(), strict=True))
    classes = page.source.partition('id="classes"')[2]
    assert classes.count('<figure class="wrong"') == mistakes > 0


def test_names_are_shown_and_never_run(personal: PersonalModel) -> None:
    source = adapt_page(personal)
    page = read_page(source)
    assert "<script>" not in source
    assert "\u202e" not in source
    assert "\x07" not in source
    assert any(r"\u202egnp\x07" in (image["alt"] or "") for image in page.all("img"))
    assert r"\udcff.jpg" in page.text  # a file that was skipped
    assert "<b>שלום & co" in page.text


@pytest.mark.slow
def test_few_pictures_of_many_photos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fewshot_lite.personal.report.adapting._MOST_PICTURES", 60)
    monkeypatch.setattr("fewshot_lite.personal.report.adapting._MOST_SHOWN", 4)
    torch.manual_seed(1)
    labels = [f"c{k:02d}" for k in range(35)] * 4
    images = torch.randint(0, 256, (len(labels), 3, SIZE, SIZE), dtype=torch.uint8)
    page = read_page(adapt_page(tiny_model().adapt(images, labels)))
    assert "The first 4 of 35 classes are shown." in page.text
    assert page.text.count("3 are shown") == 4
    assert page.text.count("Confusion matrix") == 0
    classes = page.source.partition('id="classes"')[2]
    assert classes.count("<img") == 12


def test_a_model_from_a_file_and_one_without_pictures(
    personal: PersonalModel, tmp_path: Path
) -> None:
    loaded = PersonalModel.load(personal.save(tmp_path / "with.safetensors"))
    page = read_page(adapt_page(loaded))
    assert "is not known any more" in page.text
    assert len(page.all("img")) >= len(personal.labels)
    bare = PersonalModel.load(personal.save(tmp_path / "no.safetensors", thumbnails=False))
    page = read_page(adapt_page(bare))
    assert page.all("img") == []
    assert "There are no pictures" in page.text
    assert "keys/twin.png" in page.text


def test_nothing_can_be_told_of_single_photos() -> None:
    images = torch.randint(0, 256, (2, 3, SIZE, SIZE), dtype=torch.uint8)
    page = read_page(adapt_page(tiny_model().adapt(images, ["a", "b"])))
    assert "How good the model is cannot be told" in page.text
    assert (
        "Nothing stands out. Whether a photo lies in the wrong class cannot be told." in page.text
    )


def test_the_page_is_written_whole(personal: PersonalModel, tmp_path: Path) -> None:
    path = write_adapt_report(personal, tmp_path / "r.html")
    read_page(path.read_text(encoding="utf-8"))
    assert list(tmp_path.iterdir()) == [path]


def test_a_support_photo_is_most_like_itself_and_one_of_the_class_is_shown(
    personal: PersonalModel,
) -> None:
    number, labels = len(personal.labels), personal.labels.tolist()
    own = nearest_photos(personal, personal.features, labels)
    same = personal.features @ personal.features.T  # copies of a photo are as near
    for i in range(number):
        assert torch.allclose(personal.features[own[i][0]], personal.features[i], atol=1e-4)
        assert len(own[i]) == len(set(own[i])) == 3
    assert same.shape == (number, number)
    for answer in range(len(personal.class_names)):
        for chosen in nearest_photos(personal, personal.features, [answer] * number):
            assert answer in [labels[i] for i in chosen]


def test_typical_photos_are_of_their_class_and_not_those_left_out(personal: PersonalModel) -> None:
    labels = personal.labels.tolist()
    every = typical_photos(personal)
    for k, chosen in enumerate(every):
        assert {labels[i] for i in chosen} == {k}
        assert len(chosen) == min(3, labels.count(k))
    without = typical_photos(personal, leave_out=frozenset(every[0]))
    assert not set(without[0]) & set(every[0])


def test_likeness_needs_no_second_photo() -> None:
    images = torch.randint(0, 256, (2, 3, SIZE, SIZE), dtype=torch.uint8)
    personal = tiny_model().adapt(images, ["a", "b"])
    assert nearest_photos(personal, personal.features, [0, 1]) == [[0, 1], [1, 0]]


def test_pages_of_one_model_differ_in_nothing_but_the_time(personal: PersonalModel) -> None:
    first, second = (re.sub(r"Made on .*? by", "", adapt_page(personal)) for _ in range(2))
    assert first == second
