"""`film-HEAD:CHECKPOINT` is what `adapt --head HEAD` makes of the checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fewshot_lite.evaluation.names import FILM_HEADS, parse_models
from fewshot_lite.evaluation.opening import Session, open_models
from fewshot_lite.personal.meta_model import MetaModel
from photos import SIZE, tiny_model

LABELS = torch.arange(3).repeat_interleave(2)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base") / "tiny.safetensors"
    tiny_model().save(path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", FILM_HEADS)
def test_it_answers_as_the_personal_model(saved: Path, name: str) -> None:
    (opened,) = open_models(
        parse_models([f"{name}:{saved}"]), Session(device="cpu", precision="float32")
    )
    support = torch.randint(0, 256, (6, 3, SIZE, SIZE), dtype=torch.uint8)
    queries = torch.randint(0, 256, (4, 3, SIZE, SIZE), dtype=torch.uint8)
    personal = MetaModel.load(saved).adapt(
        support, [str(k) for k in LABELS.tolist()], head=FILM_HEADS[name]
    )
    expected = personal.probabilities(queries)
    got = opened.method.adapt(support, LABELS, 3)(queries).softmax(1)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    assert opened.description["baseline"] == name
