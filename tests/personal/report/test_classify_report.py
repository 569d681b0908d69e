"""The page on classifying: counts, few photos of many, reasons, and names that are not trusted."""

from __future__ import annotations

import gc
from dataclasses import replace
from itertools import repeat
from pathlib import Path

import pytest

from fewshot_lite.personal.bulk import Outputs, classify_files, find_photos
from fewshot_lite.personal.exported_model import ExportedModel
from fewshot_lite.personal.personal_model import PersonalModel
from fewshot_lite.personal.prediction import Prediction
from fewshot_lite.personal.report.classifying import ClassifyReport, write_classify_report
from fewshot_lite.personal.report.selection import SHOWN
from pages import read_page
from photos import SIZE, contents, draw_classes, tiny_model
from tiny import personal_of

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def personal(tmp_path_factory: pytest.TempPathFactory) -> PersonalModel:
    things = draw_classes(tmp_path_factory.mktemp("t"), {EVIL: 3, "keys": 3})
    return tiny_model().adapt(things)


@pytest.fixture
def queries(tmp_path: Path) -> Path:
    home = draw_classes(tmp_path / "in", {"mug": 3, "keys": 3}, seed=1)
    (home / "mug" / f"{EVIL} \udcfe.jpg").write_text("text")
    return home


def test_the_page_has_counts_photos_reasons_and_failures(
    personal: PersonalModel, queries: Path, tmp_path: Path
) -> None:
    answers = list(personal.classify_stream(find_photos([queries]), reject=None))
    answers[0] = replace(answers[0], unknown=True)
    path = write_classify_report(personal, answers, tmp_path / "r.html", source="mine.safetensors")
    page = read_page(path.read_text(encoding="utf-8"))
    assert "<img src=x" not in page.source
    for words in ("7 files", "mine.safetensors", "Least sure", "Unknown", "Failed", EVIL):
        assert words in page.text
    assert r"\udcfe.jpg" in page.text
    assert "Most sure" not in page.text  # all are among the least sure
    sizes = [picture.size for picture in page.pictures()]
    assert sizes == [(SIZE, SIZE)] * (6 + 6 * 3)
    alts = [image["alt"] for image in page.all("img")]
    assert {alt for alt in alts if alt and alt.startswith("Photo keys/0")}


def test_without_thumbnails_reasons_are_names(personal: PersonalModel, queries: Path) -> None:
    bare = personal_of(
        personal.backbone,
        personal.head,
        personal.features,
        personal.labels,
        personal.class_names,
        personal.image_size,
        {},
        personal.photos,
    )
    report = ClassifyReport(bare)
    for answer in bare.classify(queries.rglob("0*.png")):
        report.add(answer)
    page = read_page(report.page())
    assert len(page.all("img")) == 6
    assert page.text.count("Like keys/0") + page.text.count(f"Like {EVIL}/0") == 6


class Exported(ExportedModel):
    """As far as a report looks at it."""

    def __init__(self) -> None:
        self.class_names = ("mug", "keys")
        self.image_size = SIZE


def test_of_an_exported_model_there_are_no_reasons(queries: Path) -> None:
    report = ClassifyReport(Exported())
    for path in queries.rglob("0*.png"):
        report.add(Prediction(path, (("mug", 0.9), ("keys", 0.1)), None, False, 1.0))
    page = read_page(report.page())
    assert "The model was exported" in page.text
    assert len(page.all("img")) == 6
    assert "Most like" not in page.text


def test_of_many_files_few_are_kept_and_shown(queries: Path) -> None:
    photo = next(queries.rglob("0*.png"))
    report = ClassifyReport(Exported())
    for number in range(5_000):
        p = 0.5 + (number * 7919 % 1000) / 2001
        labels = (("mug", p), ("keys", 1 - p))
        report.add(Prediction(photo, labels, None, number % 5 == 0, p))
        report.add(Prediction(Path(f"gone-{number}.jpg"), (), f"why {number}"))
    assert sum(type(kept) is Prediction for kept in gc.get_objects()) < 300
    page = read_page(report.page())
    assert "10,000 files" in page.text
    assert f"at most {SHOWN} are shown in each section" in page.text
    assert len(page.all("img")) <= 3 * SHOWN
    assert len(page.source) < 300_000


def test_photos_that_are_gone_by_now_have_no_picture(
    personal: PersonalModel, queries: Path
) -> None:
    report = ClassifyReport(personal)
    paths = sorted(queries.rglob("0*.png"))
    for answer in personal.classify(paths):
        report.add(answer)
    report.add(Prediction(None, (("keys", 0.5),)))
    paths[0].unlink()
    page = read_page(report.page())
    assert page.text.count("no picture") == 2


def test_no_answers_are_a_page_too(personal: PersonalModel) -> None:
    assert "0 files" in read_page(ClassifyReport(personal).page()).text


def test_a_report_is_one_of_the_outputs(
    personal: PersonalModel, queries: Path, tmp_path: Path
) -> None:
    outputs = Outputs(
        csv=tmp_path / "a.csv", sort_into=tmp_path / "s", report=queries / "r.html", force=True
    )
    for _ in range(2):  # the page of the first run is no photo of the second
        outputs.check([queries])
        found = find_photos([queries], leave_out=outputs.paths)
        tally = classify_files(personal, found, outputs)
    assert tally.files == 7
    page = read_page((queries / "r.html").read_text(encoding="utf-8"))
    assert "7 files" in page.text
    assert len((tmp_path / "a.csv").read_text(errors="replace").splitlines()) == 8


def test_a_run_that_fails_leaves_no_page(
    personal: PersonalModel, queries: Path, tmp_path: Path
) -> None:
    def failing() -> object:
        yield next(queries.rglob("0*.png"))
        raise KeyboardInterrupt

    before = contents(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        classify_files(personal, failing(), Outputs(report=tmp_path / "r.html"))  # type: ignore[arg-type]
    assert contents(tmp_path) == before


def test_repeated_predictions_are_one_each(personal: PersonalModel, queries: Path) -> None:
    """The same object again is shown once: identity is what tells answers apart."""
    (answer,) = personal.classify([next(queries.rglob("0*.png"))])
    report = ClassifyReport(personal)
    for again in repeat(answer, 3):
        report.add(again)
    assert read_page(report.page()).text.count("Least sure") == 2  # the link and the heading
