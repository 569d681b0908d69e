"""Values that no run can have are refused by the name of their flag, before torch is imported."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fewshot_lite
from command_line import run_lines
from fewshot_lite.core.config import check_switch, settings_of
from fewshot_lite.core.errors import InputError, UsageError
from fewshot_lite.evaluation.protocols.options import ProtocolOptions
from fewshot_lite.training.meta_config import MetaTrainConfig
from fewshot_lite.training.pretrain_config import PretrainConfig
from fewshot_lite.training.tune_config import TuneConfig

PRETRAIN: list[tuple[str, dict[str, Any]]] = [
    ("--epochs 0", {"epochs": 0}),
    ("--batch-size 0", {"batch_size": 0}),
    ("--lr 0", {"lr": 0.0}),
    ("--lr -1", {"lr": -1.0}),
    ("--lr nan", {"lr": math.nan}),
    ("--lr inf", {"lr": math.inf}),
    ("--weight-decay -0.1", {"weight_decay": -0.1}),
    ("--weight-decay nan", {"weight_decay": math.nan}),
    ("--label-smoothing -0.1", {"label_smoothing": -0.1}),
    ("--label-smoothing 1", {"label_smoothing": 1.0}),
    ("--leave-out 1", {"leave_out": 1.0}),
    ("--leave-out -0.5", {"leave_out": -0.5}),
    ("--image-size 2000", {"image_size": 2000}),
    ("--min-image-size 8", {"min_image_size": 8}),
    ("--min-image-size 97", {"min_image_size": 97}),
]

TUNE: list[tuple[str, dict[str, Any]]] = [
    ("--stages 0", {"stages": 0}),
    ("--strength 0", {"strength": 0.0}),
    ("--strength 1.5", {"strength": 1.5}),
    ("--views -1", {"views": -1}),
    ("--steps 0", {"steps": 0}),
    ("--sets-per-step 0", {"sets_per_step": 0}),
    ("--batch-size 0", {"batch_size": 0}),
    ("--lr 0", {"lr": 0.0}),
    ("--lr inf", {"lr": math.inf}),
    ("--hold -1", {"hold": -1.0}),
    ("--hold nan", {"hold": math.nan}),
]

META_TRAIN: list[tuple[str, dict[str, Any]]] = [
    ("--tasks 0", {"tasks": 0}),
    ("--tasks-per-step 0", {"tasks_per_step": 0}),
    ("--lr 0", {"lr": 0.0}),
    ("--lr nan", {"lr": math.nan}),
    ("--lr inf", {"lr": math.inf}),
    ("--queries 0", {"queries": 0}),
    ("--max-shot 0", {"max_shot": 0}),
    ("--micro-batch 0", {"micro_batch": 0}),
    ("--metric cosine", {"metric": "cosine"}),
    ("--h 0", {"h": 0}),
    ("--h -3", {"h": -3}),
    ("--h all", {"h": None, "gradient": "small-task"}),
    ("--sampling informed", {"sampling": "informed", "gradient": "full"}),
    ("--sampling informed", {"sampling": "informed", "gradient": "small-task"}),
    ("--backbone-lr -1", {"backbone_lr": -1.0}),
    ("--backbone-lr nan", {"backbone_lr": math.nan}),
    ("--penalty -1", {"penalty": -1.0}),
    ("--image-size 15", {"image_size": 15}),
    ("--image-size 1025", {"image_size": 1025}),
    ("--min-way 1", {"min_way": 1}),
    ("--max-way 4", {"max_way": 4}),
    ("--max-support 19", {"max_support": 19}),
    ("--validate-every -1", {"validate_every": -1}),
    ("--shifts 1.5", {"shifts": 1.5}),
    ("--shifts -0.5", {"shifts": -0.5}),
    ("--shifts nan", {"shifts": math.nan}),
    ("--schedule linear", {"schedule": "linear"}),
    ("--optimizer sgd", {"optimizer": "sgd"}),
    ("--warmup -1", {"warmup": -1.0}),
    ("--warmup nan", {"warmup": math.nan}),
    ("--warmup 2001", {"warmup": 2001}),
    ("--weight-decay 0.1", {"weight_decay": 0.1}),
    ("--weight-decay -1", {"weight_decay": -1.0, "optimizer": "adamw"}),
    ("--lr-factor head=-1", {"lr_factor": {"head": -1}}),
    ("--lr-factor head=nan", {"lr_factor": {"head": math.nan}}),
    ("--clip-norm 0", {"clip_norm": 0.0}),
    ("--clip-norm nan", {"clip_norm": math.nan}),
    ("--ema 0", {"ema": 0.0}),
    ("--ema 1", {"ema": 1.0}),
    ("--patience 2", {"patience": 2}),
    ("--patience -1", {"patience": -1, "validate_every": 1}),
]


@pytest.mark.parametrize(
    "config",
    [
        PretrainConfig(),
        PretrainConfig(weight_decay=0, label_smoothing=0, min_image_size=16, image_size=16),
        TuneConfig(),
        TuneConfig(views=0, hold=1, hold_set=("photos",), anchor="default"),
        MetaTrainConfig(),
        MetaTrainConfig(h=None, backbone_lr=0, penalty=0, image_size=1024, shifts=1),
        MetaTrainConfig(h=1, min_way=2, max_way=2, max_support=2, max_shot=1, queries=1),
    ],
)
def test_the_defaults_and_the_limits_are_valid(
    config: PretrainConfig | TuneConfig | MetaTrainConfig,
) -> None:
    config.check()


@pytest.mark.parametrize(
    ("flag", "config"),
    [(flag, PretrainConfig(**values)) for flag, values in PRETRAIN]
    + [(flag, TuneConfig(**values)) for flag, values in TUNE]
    + [(flag, MetaTrainConfig(**values)) for flag, values in META_TRAIN],
    ids=[
        f"{command} {flag}"
        for command, cases in (("pretrain", PRETRAIN), ("tune", TUNE), ("meta", META_TRAIN))
        for flag, _ in cases
    ],
)
def test_an_impossible_value_is_named_by_its_flag(
    flag: str, config: PretrainConfig | TuneConfig | MetaTrainConfig
) -> None:
    with pytest.raises(UsageError, match=rf"{flag}(?!\d)") as caught:
        config.check()
    assert str(caught.value).startswith("--")
    assert "must be" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("config", [PretrainConfig, TuneConfig, MetaTrainConfig, ProtocolOptions])
def test_each_flag_is_under_a_heading_that_begins_at_a_field(config: Any) -> None:
    names = [name for name, _, _ in settings_of(config)]
    assert [name for name in names if name in config.PANELS] == list(config.PANELS)
    assert list(dict.fromkeys(item.panel for _, _, item in settings_of(config))) == list(
        config.PANELS.values()
    )


def test_help_comes_without_torch() -> None:
    _, commands = run_lines([])
    assert {"adapt", "classify", "pretrain", "meta-train"} <= set(commands)
    lines = [["--help"], ["--version"], *([command, "--help"] for command in commands)]
    found, _ = run_lines(lines)
    assert len(found) == len(lines) + 1
    for line, code, torch_is_imported, _ in found:
        assert code == 0, line
        assert not torch_is_imported, line


def test_argument_errors_come_without_torch(tmp_path: Path) -> None:
    missing, folder, file = str(tmp_path / "missing"), str(tmp_path), str(tmp_path / "file")
    Path(file).touch()
    lines = [
        ["adapt"],
        ["adapt", missing],
        ["adapt", file],
        ["adapt", folder, "-o", file],
        ["adapt", folder, "-o", str(tmp_path / "new"), "--base", "nonesuch"],
        ["adapt", folder, "--nonesuch"],
        ["nonesuch"],
        ["classify"],
        ["demo", "--base", "nonesuch"],
        ["pretrain", missing, "-o", "x"],
        ["pretrain", folder, "-o", file],
        ["pretrain", folder, "-o", "x", "--epochs", "0"],
        ["tune", missing, "-o", "x"],
        ["tune", folder, "-o", "x", "--weights", "none"],
        ["meta-train", missing, "-o", "x"],
        ["meta-train", folder, "-o", file],
        ["meta-train", folder, "-o", "x", "--h", "many"],
        ["meta-train", folder, "-o", "x", "--min-way", "1"],
    ]
    found, _ = run_lines(lines)
    assert len(found) == len(lines) + 1
    for line, code, torch_is_imported, message in found[1:]:
        assert code == 2, line
        assert message.strip(), line
        assert not torch_is_imported, line


def test_functions_of_the_public_api_are_functions_whatever_was_imported_before() -> None:
    import fewshot_lite
    import fewshot_lite.cli.meta_train
    import fewshot_lite.cli.pretrain
    import fewshot_lite.evaluation.accuracy
    import fewshot_lite.training.meta_train
    import fewshot_lite.training.pretrain

    for name in fewshot_lite.__all__:
        value = getattr(fewshot_lite, name)
        assert callable(value) or name == "__version__", name


def public_switches() -> Iterator[tuple[str, Callable[..., Any], str, bool]]:
    """Every bool that a public call or setting takes: where, the call, its name, if None is one."""
    for name in fewshot_lite.__all__:
        public = getattr(fewshot_lite, name)
        members = [public] if inspect.isfunction(public) else []
        if inspect.isclass(public):
            members = [getattr(public, m) for m in dir(public) if m[0] != "_" or m == "__init__"]
        for call in members:
            if not (inspect.isroutine(call) and hasattr(call, "__annotations__")):
                continue
            if call.__name__ == "get_params":  # whose `deep` has no effect
                continue
            for item in inspect.signature(call).parameters.values():
                if item.annotation in ("bool", "bool | None"):
                    config = public if call.__name__ == "__init__" else call
                    where = f"{name}.{call.__name__}: {item.name}"
                    yield where, config, item.name, item.annotation != "bool"


SWITCHES = [case for case in public_switches() if "FewShotClassifier.__init__" not in case[0]]


@pytest.mark.parametrize(
    ("call", "name", "optional"), [case[1:] for case in SWITCHES], ids=[c[0] for c in SWITCHES]
)
def test_a_switch_is_true_or_false_and_nothing_that_python_takes_for_it(
    call: Callable[..., Any], name: str, optional: bool
) -> None:
    for value in ("no", "", "False", 0, 1, 0.0, [], np.int64(1), np.ones(2), None, b"1", "auto"):
        if value is None and optional:
            continue
        with pytest.raises(InputError, match=rf"^{name}: .* is not True.* or ") as caught:
            _begun(call, {name: value})
        assert "\n" not in str(caught.value)


def _begun(call: Callable[..., Any], arguments: dict[str, Any]) -> None:
    """Call it; settings are checked when a run with them begins."""
    made = call(**arguments)
    made.check()


def test_every_public_switch_was_found() -> None:
    assert len(SWITCHES) > 25
    for value in (True, False, np.True_, np.False_):
        check_switch("force", value)
    check_switch("refine", "auto", "auto")
    check_switch("mirror", None, None)
    with_numpys = MetaTrainConfig(augment=np.False_)  # type: ignore[arg-type]
    with_numpys.check()
    assert with_numpys.augment is False  # as files of settings have it
