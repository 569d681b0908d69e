"""Meta-training learners that adapt by gradient: flags, resume, vectorised steps, the log."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fewshot_lite.core import checkpoint
from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.maml.gradient_learner import GradientLearner
from fewshot_lite.networks.weights import load_backbone
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.training.meta_config import MetaTrainConfig
from fewshot_lite.training.meta_train import meta_train
from photos import draw_classes

pytestmark = pytest.mark.slow

CONFIG = MetaTrainConfig(
    learner="fomaml",
    backbone="conv4",
    image_size=16,
    min_way=3,
    max_way=3,
    shot=2,
    queries=2,
    tasks=4,
    tasks_per_step=2,
    inner_steps=2,
    augment=False,
    shifts=0.0,
)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_classes(tmp_path_factory.mktemp("data") / "shapes", dict.fromkeys("abcd", 5))


def learner_of(path: Path) -> GradientLearner:
    learner = MetaModel.load(path).learner
    assert isinstance(learner, GradientLearner)
    return learner


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("fomaml", {}),
        ("maml", {"inner_lr": 0.05, "inner_head": "learned"}),
        ("maml", {"gradient": "full", "pattern": "00001,00011"}),
        ("maml", {"gradient": "small-task", "h": 3}),
        ("imaml", {"lam": 3.0, "cg_steps": 2, "inner_solver": "hessian-free"}),
        ("imaml", {"statistics": "running", "pattern": "00011"}),
        ("imaml", {"curvature": "gauss-newton", "cg_steps": 2}),
        ("maml", {"film_stages": 2, "layer_rates": True, "statistics": "running"}),
        ("fomaml", {"film_stages": 1, "pattern": "00010", "statistics": "running"}),
    ],
)
def test_every_learner_trains_and_keeps_its_settings(
    shapes: Path, tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    output = tmp_path / "model.safetensors"
    config = replace(CONFIG, learner=name, **options)
    result = meta_train(shapes, output, config)
    assert result.finished
    learner = learner_of(output)
    kept = learner.hyperparameters()
    assert learner.name == name
    assert kept["inner_steps"] == 2
    for key in kept.keys() & options.keys():
        assert kept[key] == options[key]
    assert kept["way"] == (3 if options.get("inner_head") == "learned" else None)
    assert kept["statistics"] == options.get("statistics", "support")


def test_a_trained_backbone_brings_its_statistics(shapes: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from fewshot_lite.networks.backbone import Backbone

    weights = tmp_path / "conv4.safetensors"
    save_file(Backbone("conv4", 16).network.state_dict(), weights)
    output = tmp_path / "model.safetensors"
    meta_train(shapes, output, replace(CONFIG, weights=str(weights)))
    assert learner_of(output).statistics == "running"


@pytest.mark.parametrize("layer_rates", [False, True])
def test_film_and_rates_learn_and_what_lies_below_stays(
    shapes: Path, tmp_path: Path, layer_rates: bool
) -> None:
    output = tmp_path / "model.safetensors"
    moving = {"film_stages": 2, "layer_rates": layer_rates, "statistics": "running"}
    meta_train(shapes, output, replace(CONFIG, learner="maml", lr=0.01, **moving))
    before = load_backbone("conv4", "none", 16, seed=CONFIG.seed)[0].state_dict()
    learner = learner_of(output)
    after = learner.backbone.state_dict()
    moved = {k for k in before if not torch.allclose(before[k], after[k], atol=2e-3)}
    norms = [f"network.features.{stage}.1." for stage in (2, 3)]
    assert moved == {f"{norm}{part}" for norm in norms for part in ("weight", "bias")}
    rates = learner.state_dict().get("log_rates")
    assert (rates is not None) == layer_rates
    if rates is not None:
        assert torch.allclose(rates[:2], rates[0].expand(2))  # of stages that no step moves
        assert float((rates[2:] - rates[0]).abs().min()) > 1e-3


def test_vectorised_steps_train_the_same(shapes: Path, tmp_path: Path) -> None:
    states = []
    for vectorise in (False, True):
        output = tmp_path / f"{vectorise}.safetensors"
        config = replace(CONFIG, learner="maml", tasks=2, vectorise=vectorise)
        meta_train(shapes, output, config)
        states.append(learner_of(output).state_dict())
    for name, value in states[0].items():
        assert torch.allclose(value.float(), states[1][name].float(), atol=2e-4), name


def test_a_resumed_run_is_the_undisturbed_run(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fewshot_lite.training import meta_step

    config = replace(CONFIG, learner="imaml", save_every=2)
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    meta_train(shapes, whole, config)
    real, count = meta_step.meta_gradient, 0

    def die_at_the_third(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        if count == 3:
            raise RuntimeError("killed")
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(meta_step, "meta_gradient", die_at_the_third)
        with pytest.raises(RuntimeError, match="killed"):
            meta_train(shapes, parts, config)
    meta_train(shapes, parts, config, resume=True)
    ours, theirs = learner_of(whole).state_dict(), learner_of(parts).state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_negative_curvature_is_logged(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fewshot_lite.training import meta_step

    real = meta_step.meta_gradient

    def negative(*args: Any, **kwargs: Any) -> Any:
        return replace(real(*args, **kwargs), negative_curvature=torch.tensor(1))

    monkeypatch.setattr(meta_step, "meta_gradient", negative)
    result = meta_train(shapes, tmp_path / "m.safetensors", replace(CONFIG, learner="imaml"))
    assert result.log is not None
    events = [json.loads(line) for line in result.log.read_text().splitlines()]
    counts = [event["negative_curvature"] for event in events if event["event"] == "step"]
    assert counts == [2, 4]


def test_an_inner_loop_that_diverges_ends_in_words(shapes: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, inner_lr=1e6, inner_steps=8, statistics="running", tasks=12)
    with pytest.raises(FewshotError, match=r"Lower --lr .* or --inner-lr"):
        meta_train(shapes, tmp_path / "m.safetensors", config)


def test_exact_shots_leave_out_classes_with_too_few(tmp_path: Path) -> None:
    data = draw_classes(tmp_path / "data", {"a": 5, "b": 5, "c": 5, "small": 3})
    config = replace(CONFIG, min_way=4, max_way=4, shot=3)
    with pytest.raises(FewshotError, match="has 3 with at least 5 photos"):
        meta_train(data, tmp_path / "m.safetensors", config)


@pytest.mark.parametrize(
    "damage",
    [
        {"inner_lr": "NaN"},
        {"inner_lr": -1},
        {"inner_steps": 10**12},
        {"inner_steps": 0},
        {"inner_steps": "two"},
        {"statistics": "foo"},
        {"inner_head": 3},
        {"pattern": 5},
        {"lam": 0},
        {"cg_steps": -1},
        {"inner_solver": "x"},
        {"curvature": "x"},
        {"film_stages": "x"},
        {"film_stages": 9},
    ],
)
def test_a_damaged_description_is_told(
    shapes: Path, tmp_path: Path, damage: dict[str, Any]
) -> None:
    output = tmp_path / "m.safetensors"
    meta_train(shapes, output, replace(CONFIG, learner="imaml", tasks=1, tasks_per_step=1))
    file = checkpoint.load(output, "meta")
    meta = {k: v for k, v in file.meta.items() if k not in ("format", "kind")}
    meta["hyperparameters"] = meta["hyperparameters"] | damage
    checkpoint.save(output, "meta", file.tensors, meta)
    with pytest.raises(FewshotError, match="damaged or from another version"):
        MetaModel.load(output)


def test_rotate_names_a_data_set(shapes: Path, tmp_path: Path) -> None:
    meta_train(shapes, tmp_path / "m.safetensors", replace(CONFIG, rotate=("shapes",)))
    with pytest.raises(UsageError, match="--rotate other"):
        meta_train(shapes, tmp_path / "n.safetensors", replace(CONFIG, rotate=("other",)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learner": "simple-cnaps", "inner_steps": 3}, "--inner-steps 3: must be left out"),
        (
            {"learner": "maml", "lam": 2.0},
            "--lambda 2.0: must be left out with --learner maml; it belongs to",
        ),
        ({"lam": 0.0, "learner": "imaml"}, "--lambda 0.0: must be more than 0"),
        ({"inner_lr": -1.0}, "--inner-lr -1.0: must be more than 0"),
        ({"inner_steps": 0}, "--inner-steps 0"),
        ({"learner": "imaml", "cg_steps": 0}, "--cg-steps 0"),
        ({"inner_head": "learned", "max_way": 4}, "--inner-head learned: serves one way"),
        ({"vectorise": True, "shot": None}, "--vectorise: needs tasks of one shape"),
        ({"vectorise": True, "gradient": "full", "learner": "maml"}, "--vectorise: must be left"),
        ({"shot": 60}, "--shot 60: 3 classes make 180"),
        ({"compile": True}, "--compile: must be left out with --learner fomaml"),
        ({"precision": "bfloat16"}, "--precision bfloat16: must be left out"),
        ({"sampling": "informed"}, "--sampling informed: must be left out"),
        ({"h": 3}, "--h 3: must be left out with --learner fomaml"),
        ({"gradient": "full"}, "--gradient full: must be left out with fomaml"),
        (
            {"learner": "imaml", "inner_solver": "hessian-free", "gradient": "full"},
            "--gradient full: must be left out with --inner-solver",
        ),
        ({"learner": "maml", "h": 3}, "--h 3: must be left out with --statistics support"),
        ({"max_shot": 1}, "--max-shot 1: must be left out with --shot"),
        ({"penalty": 5.0}, "--penalty 5.0: must be left out with --learner fomaml"),
        ({"inner_steps": 10**6}, "--inner-steps 1000000: must be at least 1 and at most 10000"),
        ({"inner_head": "learned", "pattern": "00000"}, "adapts nothing"),
        ({"pattern": "011"}, "--pattern 011: must have 5 digits 0 or 1, for block1"),
        ({"pattern": "0000x"}, "--pattern 0000x: must have 5 digits"),
        ({"pattern": "00001,00011,00111"}, "has 3 rows, but there are 2 inner steps"),
        ({"learner": "imaml", "pattern": "00001,00011"}, "must be one row for imaml"),
        ({"film_stages": 2}, "--film-stages 2: must be left out with --statistics support"),
        ({"film_stages": 4, "statistics": "running"}, "conv4 has 4 stages, so give 1 to 3"),
        (
            {"film_stages": 2, "statistics": "running", "pattern": "01111"},
            "updates block2, but with --film-stages 2 nothing below block3 is",
        ),
        ({"learner": "imaml", "layer_rates": True}, "--layer-rates: must be left out with"),
    ],
)
def test_what_makes_no_sense_is_refused(
    shapes: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as refused:
        meta_train(shapes, tmp_path / "m.safetensors", replace(CONFIG, **options))
    assert message in str(refused.value)
    assert list(tmp_path.iterdir()) == []
