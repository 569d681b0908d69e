"""Bases that adapt by gradient in comparisons: as themselves, and as backbones of baselines."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from gradient_models import gradient_model

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.evaluation.methods import Method
from fewshot_lite.evaluation.names import FILM_HEADS, parse_models
from fewshot_lite.evaluation.opening import Session, open_models
from photos import SIZE

LABELS = torch.arange(3).repeat_interleave(2)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bases")
    gradient_model().save(folder / "support.safetensors")
    gradient_model(statistics="running").save(folder / "running.safetensors")
    gradient_model(inner_head="learned", way=5).save(folder / "five.safetensors")
    gradient_model(inner_lr=1e30).save(folder / "wild.safetensors")
    return folder


def opened(text: str) -> Method:
    settings = Session(device="cpu", precision="float32")
    (found,) = open_models(parse_models([text]), settings)
    return found.method


def images(number: int) -> torch.Tensor:
    return torch.randint(0, 256, (number, 3, SIZE, SIZE), dtype=torch.uint8)


@pytest.mark.parametrize("name", ["support", "running"])
def test_a_checkpoint_answers_as_its_personal_model_but_for_the_temperature(
    bases: Path, name: str
) -> None:
    support, queries = images(6), images(4)
    logits = opened(f"{bases}/{name}.safetensors").adapt(support, LABELS, 3)(queries)
    options = {"statistics": name}
    personal = gradient_model(**options).adapt(support, [str(k) for k in LABELS.tolist()])
    factor = personal.provenance["head"]["temperature_factor"]
    expected = personal.probabilities(queries)
    torch.testing.assert_close((factor * logits).softmax(1), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("baseline", ["cosine", "ridge", "finetune-head", "finetune-film"])
def test_baselines_need_a_backbone_with_statistics_of_its_own(bases: Path, baseline: str) -> None:
    with pytest.raises(UsageError, match=rf"^{baseline}:.*support\.safetensors: the backbone was"):
        opened(f"{baseline}:{bases}/support.safetensors")
    assert opened(f"{baseline}:{bases}/running.safetensors").name.startswith(baseline)


@pytest.mark.parametrize("name", FILM_HEADS)
def test_other_heads_on_adapted_features_are_refused(bases: Path, name: str) -> None:
    with pytest.raises(UsageError, match=rf"^{name}:.* Give /.*running\.safetensors alone\.$"):
        opened(f"{name}:{bases}/running.safetensors")


def test_what_cannot_adapt_is_named(bases: Path) -> None:
    with pytest.raises(UsageError, match=r"five\.safetensors: .* 5 classes, but there are 3"):
        opened(f"{bases}/five.safetensors").adapt(images(6), LABELS, 3)
    with pytest.raises(FewshotError, match=r"wild\.safetensors: Adapting diverged"):
        opened(f"{bases}/wild.safetensors").adapt(images(6), LABELS, 3)
