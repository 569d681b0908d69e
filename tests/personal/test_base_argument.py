"""What `--base` and `--weights` name."""

from __future__ import annotations

from pathlib import Path

import pytest
from torchvision import models

from fewshot_lite.core.errors import UsageError
from fewshot_lite.core.files import DEFAULT_MODEL
from fewshot_lite.networks.lite_layout import VARIANTS
from fewshot_lite.networks.names import NETWORKS
from fewshot_lite.personal.base_argument import Base, parse_base

#: Those that `backbones` does not take; see `networks`.
OTHERS = ("alexnet", "googlenet", "inception", "mnasnet", "squeezenet")


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    for name in ("another", DEFAULT_MODEL):
        (folder / f"{name}.safetensors").touch()
    monkeypatch.setattr("fewshot_lite.core.files.models_folder", lambda: folder)
    monkeypatch.setattr("fewshot_lite.personal.base_argument.models_folder", lambda: folder)
    return folder


def test_the_names_are_torchvisions_and_our_own() -> None:
    plain_vgg = {"vgg11", "vgg13", "vgg16", "vgg19"}
    expected = {
        name
        for name in models.list_models(module=models)
        if not name.startswith(OTHERS) and name not in plain_vgg
    }
    assert set(NETWORKS) == expected | set(VARIANTS)


def test_shipped_models_files_and_networks(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = shipped / f"{DEFAULT_MODEL}.safetensors"
    weights = tmp_path / "w.pth"
    weights.touch()
    (tmp_path / "mine").touch()
    (tmp_path / "resnet18").touch()
    assert parse_base() == Base(checkpoint=model)
    assert parse_base(DEFAULT_MODEL) == Base(checkpoint=model)
    assert parse_base("mine") == Base(checkpoint=Path("mine"))
    assert parse_base(tmp_path / "gone.safetensors").files == (tmp_path / "gone.safetensors",)
    assert parse_base("resnet18") == Base(network="resnet18")
    assert parse_base("resnet18", "default") == Base(network="resnet18")
    assert parse_base("./resnet18") == Base(checkpoint=Path("./resnet18"))
    assert parse_base("resnet18", weights) == Base(network="resnet18", weights=weights)
    assert parse_base("resnet18", weights).files == (weights,)


def test_a_shipped_model_goes_before_a_network_of_its_name(shipped: Path) -> None:
    (shipped / "resnet50.safetensors").touch()
    (shipped.parent / "w.pth").touch()
    assert parse_base("resnet50").checkpoint == shipped / "resnet50.safetensors"
    assert parse_base("resnet50", shipped.parent / "w.pth").network == "resnet50"


@pytest.mark.parametrize(
    ("base", "weights", "message"),
    [
        ("efficientnet-b0", None, r"no model of this name\. Did you mean efficientnet_b0"),
        ("ResNet_18", None, "Did you mean resnet18"),
        ("anothr", None, "Did you mean another"),
        (
            "qqq",
            None,
            r"name\. Shipped: default, another, simple-cnaps-lite0\. With a network",
        ),
        ("alexnet", None, "no model of this name"),
        ("resnet18", "gone.pth", "--weights gone.pth: no such file"),
        ("resnet18", ".", "a folder, not a file"),
        ("default", "w.pth", "--weights w.pth: goes with --base and the name of one of torchv"),
        ("resnet_18", "w.pth", "not with 'resnet_18'. Did you mean resnet18"),
        ("resnet50-11ad3fa6.pth", None, "--base resnet50 --weights resnet50-11ad3fa6.pth"),
        ("my.pth", None, "--base resnet18 --weights my.pth"),
    ],
)
def test_what_is_not_there_is_one_line_with_a_remedy(
    shipped: Path,
    monkeypatch: pytest.MonkeyPatch,
    base: str,
    weights: str | None,
    message: str,
) -> None:
    monkeypatch.chdir(shipped.parent)
    for name in ("my.pth", "resnet50-11ad3fa6.pth"):
        Path(name).touch()
    with pytest.raises(UsageError, match=message) as caught:
        parse_base(base, weights)
    assert "\n" not in str(caught.value)
