"""Videos as support and as queries: frames of a clip stay together, and a clip has one answer."""

from __future__ import annotations

import csv
import json
import math
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from clips import draw_clips, looks, write_clip
from command_line import Run, is_one_clear_line
from exported import exported_small_personal
from fewshot_lite import FewShotClassifier
from fewshot_lite.images import videos
from fewshot_lite.images.inputs import as_sources
from fewshot_lite.images.preflight import check
from fewshot_lite.images.videos import as_pixels, draw_frames
from fewshot_lite.personal.bulk import classify_files, find_photos
from fewshot_lite.personal.cross_adaptation import deal
from fewshot_lite.personal.editing import add, remove
from fewshot_lite.personal.exported_model import ExportedModel
from fewshot_lite.personal.growth import expected_growth
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.personal.personal_model import PersonalModel
from fewshot_lite.personal.quality import assess
from fewshot_lite.personal.suggesting import suggest
from photos import SIZE, draw_classes, tiny_model

pytest.importorskip("av")


@pytest.fixture(scope="module")
def base() -> MetaModel:
    return tiny_model()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of two classes and photos of one of them and of a third."""
    folder = draw_classes(tmp_path_factory.mktemp("clips") / "things", {"mug": 2, "pen": 3})
    draw_clips(folder, {"mug": 2, "pen": 0, "keys": 3})
    return folder


@pytest.fixture(scope="module")
def personal(base: MetaModel, folder: Path) -> PersonalModel:
    return base.adapt(folder, frames=5)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("new") / "new.mp4", looks(2, 12, seed=77))


def groups_of(personal: PersonalModel) -> set[frozenset[str]]:
    """The photos that are left out together, by their names."""
    numbers = personal.contents.together.tolist()
    return {
        frozenset(name for name, n in zip(personal.photos, numbers, strict=True) if n == number)
        for number in numbers
    }


def test_frames_of_a_clip_are_one_group(personal: PersonalModel) -> None:
    assert personal.examples == {"keys": 3, "mug": 4, "pen": 3}
    assert personal.shots["keys"] > 6
    frames = [name for name in personal.photos if name.startswith("keys/0.mp4")]
    assert frames[0].startswith("keys/0.mp4 at 0.")
    assert frozenset(frames) in groups_of(personal)
    assert frozenset(["mug/00.png"]) in groups_of(personal)
    assert personal.adaptation is not None
    assert personal.adaptation.clips == (3, 2, 0)


def test_a_clip_is_left_out_as_a_whole(personal: PersonalModel) -> None:
    found = personal.leave_one_out_logits()
    rows, labels, photos = personal.rows()
    groups = torch.from_numpy(personal.contents.together)
    for number in groups.unique().tolist():
        out = groups == number
        kept = ~out[photos]
        statistics = personal.head.fit(rows[kept], labels[kept], len(personal.class_names))
        expected = personal.head.logits(statistics, personal.features[out])
        torch.testing.assert_close(found[out], expected.to(found), rtol=1e-3, atol=1e-3)
    strange = personal.support_strangeness
    assert np.isfinite(strange).all()


def test_leaving_frames_out_alone_would_be_too_sure(personal: PersonalModel) -> None:
    contents = replace(personal.contents, groups=None, support_strangeness=None)
    alone = PersonalModel(personal.backbone, personal.head, contents)
    groups = torch.from_numpy(personal.contents.together)
    clips = groups.bincount()[groups] > 1
    own = personal.labels[:, None]
    whole = personal.leave_one_out_logits().log_softmax(1).gather(1, own)[clips].mean()
    single = alone.leave_one_out_logits().log_softmax(1).gather(1, own)[clips].mean()
    assert single > whole
    assert personal.threshold(0.2) > alone.threshold(0.2)


def test_quality_counts_clips(personal: PersonalModel) -> None:
    quality = assess(personal)
    assert (quality.clips, quality.left_out) == (5, 10)
    assert quality.photos == len(personal.labels)
    assert quality.of_clips is not None
    assert quality.enough
    assert expected_growth(personal, quality) is None  # three clips cannot be halved


@pytest.mark.slow
def test_of_one_clip_a_class_nothing_can_be_told(base: MetaModel, tmp_path: Path, run: Run) -> None:
    draw_clips(tmp_path / "things", {"mug": 1, "keys": 1})
    personal = base.adapt(tmp_path / "things")
    quality = assess(personal)
    assert quality.accuracy is None
    assert math.isinf(personal.threshold(0.05))
    assert quality.alone == ("keys", "mug")
    kinds = {finding.kind: finding.detail for finding in check(tmp_path / "things", SIZE)}
    assert "one video only" in kinds["one-photo"]
    base.save(tmp_path / "base.safetensors")
    output = tmp_path / "mine.safetensors"
    outcome = run(
        "adapt", tmp_path / "things", "--base", tmp_path / "base.safetensors", "-o", output
    )
    assert "cannot be told" in outcome.out
    assert "(of 1 video)" in outcome.out


def test_folds_keep_clips_whole() -> None:
    labels = torch.tensor([0] * 9 + [1] * 3)
    groups = torch.tensor([5, 5, 5, 2, 2, 9, 9, 9, 9, 7, 7, 7])
    place = deal(labels, 2, groups)
    assert place.tolist() == [1, 1, 1, 0, 0, 2, 2, 2, 2, -1, -1, -1]


def test_a_file_keeps_what_belongs_together(personal: PersonalModel, tmp_path: Path) -> None:
    path = personal.save(tmp_path / "mine.safetensors")
    again = PersonalModel.load(path)
    assert groups_of(again) == groups_of(personal)
    assert again.known_digests == personal.known_digests
    assert again.threshold(0.05) == personal.threshold(0.05)
    assert assess(again) == assess(personal)


def test_add_and_remove_keep_it_and_equal_adapting_the_head_anew(
    base: MetaModel, personal: PersonalModel, folder: Path, tmp_path: Path, clip: Path
) -> None:
    more = tmp_path / "more"
    (more / "mug").mkdir(parents=True)
    shutil.copy(clip, more / "mug" / "c.mp4")
    edit = add(personal, more, frames=5)
    assert edit.model.examples["mug"] == 5
    assert groups_of(personal) < groups_of(edit.model)
    assert edit.model.known_digests > personal.known_digests
    (added,) = groups_of(edit.model) - groups_of(personal)
    assert all(name.startswith("mug/c.mp4 at ") for name in added)
    assert len(added) > 1
    back = remove(edit.model, photos=["mug/c.mp4"]).model
    assert groups_of(back) == groups_of(personal)
    assert assess(back) == assess(personal)
    head, same = back.head.state_dict(), personal.head.state_dict()
    assert all(torch.allclose(head[name], same[name]) for name in same)
    assert add(personal, [clip], "mug").model.examples["mug"] == 5
    gone = remove(edit.model, classes=["keys"]).model
    assert gone.examples == {"mug": 5, "pen": 3}


def test_a_video_has_one_answer_of_all_its_frames(personal: PersonalModel, clip: Path) -> None:
    answer = personal.classify(clip, frames=6, reject=None)
    pixels = torch.from_numpy(as_pixels(draw_frames(clip, SIZE, 6)))
    outputs = personal.outputs(pixels)
    expected = outputs.probabilities.double().log().mean(0).softmax(0)
    found = dict(answer.labels)
    for name, value in zip(personal.class_names, expected.tolist(), strict=True):
        assert found[name] == pytest.approx(value, abs=1e-5)
    assert answer.frames == 6
    assert answer.time_line == ()
    assert answer.strangeness == pytest.approx(
        float(outputs.strangeness.sort().values[3]), rel=1e-4
    )
    assert not answer.adapted_to


def test_a_time_line(personal: PersonalModel, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "both.mkv", [*looks(0, 10, 55), *looks(2, 10, 55)])
    answer = personal.classify(path, every=0.5, reject=None)
    assert [moment.seconds for moment in answer.time_line] == [0, 0.5, 1.0, 1.5]
    alone = [
        personal.classify(frame.square.pixels, reject=None) for frame in draw_frames(path, SIZE, 20)
    ]
    for moment, row in zip(answer.time_line, (0, 5, 10, 15), strict=True):
        assert dict(moment.labels) == pytest.approx(dict(alone[row].labels), abs=1e-4)
    assert answer.labels == personal.classify(path, reject=None).labels


@pytest.mark.slow
def test_photos_and_videos_mixed_in_every_form(
    base: MetaModel, personal: PersonalModel, folder: Path, clip: Path, tmp_path: Path
) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    answers = personal.classify(files)
    assert [answer.path for answer in answers] == files
    assert [answer.frames is not None for answer in answers] == [
        path.suffix == ".mp4" for path in files
    ]
    assert all(answer.problem is None for answer in answers)
    assert personal.classify(folder) == answers
    assert personal.classify(clip.read_bytes()).labels == personal.classify(clip).labels
    labels = [path.parent.name for path in files]
    given = [path if path.suffix == ".png" else path.read_bytes() for path in files]
    listed = base.adapt(given, labels, frames=5)
    assert listed.examples == personal.examples
    torch.testing.assert_close(listed.features, personal.features)
    with zipfile.ZipFile(tmp_path / "things.zip", "w") as archive:
        for path in files:
            archive.write(path, path.relative_to(folder.parent))
    zipped = base.adapt(tmp_path / "things.zip", frames=5)
    assert zipped.photos == personal.photos
    assert groups_of(zipped) == groups_of(personal)
    table = tmp_path / "labels.csv"
    rows = [f"{path.relative_to(folder)},{path.parent.name}\n" for path in files]
    table.write_text("".join(rows))
    assert base.adapt(folder, table, frames=5).examples == personal.examples


@pytest.mark.slow
def test_the_estimator_takes_videos(
    base: MetaModel, folder: Path, clip: Path, tmp_path: Path
) -> None:
    base.save(tmp_path / "base.safetensors")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    labels = [path.parent.name for path in files]
    fitted = FewShotClassifier(tmp_path / "base.safetensors", frames=5).fit(files, labels)
    assert fitted.model_.examples == {"keys": 3, "mug": 4, "pen": 3}
    assert fitted.predict([*files, clip]).shape == (len(files) + 1,)
    fitted.partial_fit([clip], ["mug"])
    assert fitted.model_.examples["mug"] == 5


def test_what_the_model_was_adapted_to_is_known_again(
    personal: PersonalModel, folder: Path, clip: Path, tmp_path: Path
) -> None:
    mine = personal.classify(folder, frames=5)
    assert all(answer.adapted_to for answer in mine)
    other = draw_classes(tmp_path / "other", {"mug": 1}, seed=9)
    assert not any(answer.adapted_to for answer in personal.classify([other, clip]))
    renamed = tmp_path / "renamed.png"
    shutil.copy(folder / "pen" / "00.png", renamed)
    assert personal.classify(renamed).adapted_to
    assert personal.classify(renamed.read_bytes()).adapted_to
    tally = classify_files(personal, find_photos([folder / "pen", other, clip]))
    assert tally.adapted_to == 3
    assert tally.labels.total() == 2
    old = PersonalModel.load(personal.save(tmp_path / "old.safetensors"))
    old.contents = replace(old.contents, digests=None)  # as files of before have none
    assert not any(answer.adapted_to for answer in old.classify(folder))


@pytest.fixture
def shell(
    personal: PersonalModel,
    folder: Path,
    clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A folder to type commands in: things/, new.mp4 and the model."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder, "things")
    shutil.copy(clip, "new.mp4")
    personal.save()
    return tmp_path


@pytest.mark.slow
def test_the_shell_answers_for_clips_and_moments(run: Run, shell: Path) -> None:
    outcome = run("classify", "new.mp4", "--every", "0.5s", "--no-reject")
    assert outcome.code == 0, outcome.err
    first, *moments = outcome.out.splitlines()
    assert first.startswith("new.mp4: ")
    assert [line.split()[0] for line in moments] == ["0:00.00", "0:00.50", "0:01.00"]
    answer = run("classify", "new.mp4", "--json", "--every", "500ms", "--frames", "3").json[0]
    assert answer["frames"] == 3
    assert [moment["seconds"] for moment in answer["time_line"]] == [0, 0.5, 1]
    assert answer["time_line"][0]["labels"][0]["probability"] > 0
    words = ("things", "new.mp4", "--csv", "a.csv", "--jsonl", "a.jsonl", "--every", "0.5")
    outcome = run("classify", *words, "--sort-into", "sorted", "--report", "a.html")
    assert outcome.code == 0, outcome.err
    rows = list(csv.DictReader(Path("a.csv").read_text().splitlines()))
    mine = [row for row in rows if row["path"] == "new.mp4"]
    assert [row["seconds"] for row in mine] == ["", "0", "0.5", "1"]
    assert all(row["label"] for row in mine)
    lines = [json.loads(line) for line in Path("a.jsonl").read_text().splitlines()]
    assert len(lines) == 11
    assert lines[-1]["frames"] is not None
    assert lines[-1]["time_line"]
    assert lines[-2]["frames"] is lines[-2]["time_line"] is None
    assert "The model was adapted to " in outcome.err
    assert len(list(Path("sorted").rglob("*.mp4"))) == 6
    assert "new.mp4" in Path("a.html").read_text()
    plain = run("classify", "things", "--csv", "-").out.splitlines()
    assert plain[0].startswith("path,label,")


@pytest.mark.slow
def test_the_shell_adapts_adds_and_suggests(run: Run, shell: Path, base: MetaModel) -> None:
    base.save(shell / "base.safetensors")
    words = ("adapt", "things", "--base", "base.safetensors", "--frames", "4", "--force")
    found = run(*words, "--json").json
    assert found["clips"] == {"keys": 3, "mug": 2}
    assert found["quality"]["clips"] == 5
    outcome = run(*words)
    assert "(of 3 videos)" in outcome.out
    outcome = run("add", "personal.safetensors", "new.mp4", "--class", "mug", "--force")
    assert outcome.code == 0, outcome.err
    assert run("remove", "personal.safetensors", "--photo", "mug/new.mp4", "--force").code == 0
    outcome = run("suggest", "new.mp4", "things/pen", "-n", "4", "--json")
    assert {Path(item["path"]).name for item in outcome.json["photos"]} >= {"new.mp4"}
    assert run("check", "things").code == 0


def test_bad_videos_are_one_line_each(run: Run, shell: Path) -> None:
    (shell / "bad.mp4").write_bytes(b"no video")
    is_one_clear_line(run("classify", "bad.mp4"), 1, "bad.mp4: not a video, or badly damaged")
    outcome = run("classify", "bad.mp4", "new.mp4")
    assert outcome.code == 1
    assert "new.mp4: " in outcome.out
    is_one_clear_line(run("classify", "new.mp4", "--every", "soon"), 2, "--every soon: give a time")
    is_one_clear_line(run("classify", "new.mp4", "--frames", "0"), 2, "--frames 0: give a number")
    is_one_clear_line(run("adapt", "things", "--frames", "-1", "--force"), 2, "--frames -1: give")


def test_without_pyav_the_photos_are_answered_for(
    run: Run, shell: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(videos, "can_read", lambda: False)
    remedy = r'pip install "fewshot-lite\[video\]"'
    is_one_clear_line(
        run("classify", "new.mp4"), 1, f"new.mp4: a video, which takes PyAV: {remedy}"
    )
    outcome = run("classify", "things")
    assert outcome.code == 0
    assert outcome.err.count('pip install "fewshot-lite[video]"') == 5
    assert len(outcome.out.splitlines()) == 5


@pytest.mark.slow
def test_an_export_and_the_engine_without_torch_answer_for_videos(
    tmp_path: Path, clip: Path
) -> None:
    path = tmp_path / "small.onnx"
    path.write_bytes(exported_small_personal())
    answer = ExportedModel.load(path).classify(clip, every=0.5)
    assert answer.frames
    assert len(answer.time_line) == 3


def test_a_clip_is_suggested_as_one(personal: PersonalModel, clip: Path, folder: Path) -> None:
    known = sorted((folder / "pen").iterdir())
    photos = [np.full((40, 40, 3), value, np.uint8) for value in (50, 150)]
    found = suggest(personal, [clip, *as_sources(photos), *known], 2)
    assert (found.looked_at, found.known) == (3, len(known))
    assert np.isfinite([item.margin for item in found.photos]).all()
