"""`fewshot_lite.evaluate`: what the command line does, from Python."""

from __future__ import annotations

from pathlib import Path

import pytest

import fewshot_lite
from fewshot_lite import ProtocolOptions, UsageError
from fewshot_lite.core.progress import Progress
from fewshot_lite.evaluation.session import Session
from photos import classes, draw_classes, tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that says that it was trained on two classes of a data set "seen"."""
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    made = tiny_model()
    made.record["data"] = {"seen": ["thing 0", "thing 2"], "other": ["thing 1"]}
    made.save(path)
    return path


QUICK = ProtocolOptions.parse("3", "2", queries=2, tasks=2)


@pytest.mark.slow
def test_models_are_compared_on_the_tasks_of_a_folder(model: Path, tmp_path: Path) -> None:
    data = draw_classes(tmp_path / "data", classes(4, photos=5))
    told: list[Progress] = []
    session = Session(device="cpu", precision="float32")
    models = [model, f"cosine:{model}"]
    outcome = fewshot_lite.evaluate(models, data, QUICK, session, report=told.append)
    (section,) = outcome.comparison.sections
    assert section.name == "data, 3-way 2-shot"
    assert list(section.accuracy) == [str(model), f"cosine:{model}"]
    assert section.tasks == 2
    assert {progress.phase for progress in told} == {"Reading photos", "Evaluating"}
    assert (told[-1].step, told[-1].total) == (2, 2)
    assert not outcome.comparison.notes
    again = fewshot_lite.evaluate(models, data, QUICK, session)
    assert [r.scores[str(model)].units for r in again.records] == [
        r.scores[str(model)].units for r in outcome.records
    ]


@pytest.mark.slow
def test_classes_that_a_model_was_trained_on_are_told(model: Path, tmp_path: Path) -> None:
    data = draw_classes(tmp_path / "seen", classes(4, photos=5))
    (note,) = fewshot_lite.evaluate([model], data, QUICK).comparison.notes
    assert note == (
        f"{model} was trained on 2 of the 4 classes of seen ('thing 0', 'thing 2'): its accuracy "
        "there is not that on new classes."
    )


@pytest.mark.slow
def test_data_may_be_several_folders(model: Path, tmp_path: Path) -> None:
    data = [draw_classes(tmp_path / name, classes(3, photos=4)) for name in ("day", "night")]
    comparison = fewshot_lite.evaluate([model], data, QUICK).comparison
    names = ["all, 3-way 2-shot", "day, 3-way 2-shot", "night, 3-way 2-shot"]
    assert sorted(section.name for section in comparison.sections) == names


def test_what_cannot_be_is_refused_before_models_are_read(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--tasks 0"):
        fewshot_lite.evaluate([model], tmp_path, ProtocolOptions(tasks=0))
    with pytest.raises(UsageError, match="no such folder"):
        fewshot_lite.evaluate([model], tmp_path / "nowhere")
    with pytest.raises(UsageError, match="data: there is none"):
        fewshot_lite.evaluate([model], [])
