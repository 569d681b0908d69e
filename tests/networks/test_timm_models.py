"""timm's networks as backbones: small ones with random weights, fused norm layers, the hub."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.func import functional_call

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.networks.architectures import preprocessing
from fewshot_lite.networks.backbone import Backbone
from fewshot_lite.networks.film import NormParameters, folded, modulate
from fewshot_lite.networks.timm_models import configuration
from fewshot_lite.networks.weights import load_backbone
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.personal.personal_model import PersonalModel
from photos import classes, draw_classes, tiny_model

VIT = "timm:vit_tiny_patch16_224"

#: Networks with different norm layers, and a size of images; the last is DINOv2's, with registers.
NETWORKS = [
    ("timm:mobilenetv3_small_050", 32, "BatchNormAct2d"),
    ("timm:convnext_atto", 32, "LayerNorm2d"),
    ("timm:vit_small_patch14_reg4_dinov2", 28, "LayerNorm"),
]


@pytest.fixture
def timm() -> Any:
    return pytest.importorskip("timm")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size", "kind"), NETWORKS)
def test_film_reaches_the_norm_layers_of_small_networks(
    timm: Any, name: str, size: int, kind: str
) -> None:
    backbone = Backbone(name, size, seed=1).eval().requires_grad_(False)
    layers = backbone.norm_layers()
    assert kind in {type(layer).__name__ for layer in layers.values()}
    images = torch.rand(2, 3, size, size)
    plain = backbone(images)
    assert plain.shape == (2, backbone.feature_dim)
    parameters: NormParameters = {}
    for path, layer in layers.items():
        channels = len(layer.weight)
        parameters |= modulate(path, layer, 0.5 + torch.rand(channels), torch.rand(channels))
    adapted = functional_call(backbone, parameters, (images,))
    assert (adapted - plain).norm() > 0.1 * plain.norm()
    torch.testing.assert_close(folded(backbone, parameters)(images), adapted)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["BatchNormAct2d", "GroupNormAct", "LayerNormAct2d"])
def test_film_of_a_fused_layer_is_before_its_activation(timm: Any, kind: str) -> None:
    groups = {"num_groups": 2} if kind == "GroupNormAct" else {}
    layer = getattr(timm.layers, kind)(4, **groups).eval()
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    x = torch.randn(2, 4, 3, 3)
    gamma, beta = torch.rand(4) + 0.5, torch.randn(4)
    values = modulate("layer", layer, gamma, beta)
    own = {name.removeprefix("layer."): value for name, value in values.items()}
    got = functional_call(layer, own, (x,))
    layer.act, activation = nn.Identity(), layer.act
    expected = activation(gamma[:, None, None] * layer(x) + beta[:, None, None])
    torch.testing.assert_close(got, expected)


@pytest.mark.slow
def test_images_are_as_timm_says(timm: Any) -> None:
    found = preprocessing("timm:vit_small_patch14_dinov2.lvd142m")
    assert (found.size, found.mean) == (518, (0.485, 0.456, 0.406))
    assert preprocessing("timm:tf_efficientnet_lite0").mean == (0.5, 0.5, 0.5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "reason"),
    [
        ("timm:resnett18", 32, r"no such network\. Did you mean timm:resnet18"),
        ("timm:vit_tiny_patch16_224.nonsense", 32, "no such network"),
        ("timm:nfnet_f0", 64, "no normalisation layers"),
        ("timm:twins_svt_small", 50, "50 px"),
    ],
)
def test_what_cannot_be_a_backbone_is_refused(timm: Any, name: str, size: int, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        Backbone(name, size)
    assert str(caught.value).startswith(f"backbone '{name}'")
    assert "\n" not in str(caught.value)


def hub_with(monkeypatch: pytest.MonkeyPatch, cached: object, online: bool = False) -> list[str]:
    """The hub's functions: what is in its cache; and the files that it is asked for."""
    hub = importlib.import_module("huggingface_hub")
    asked: list[str] = []

    def look(url: str, **options: object) -> None:
        asked.append(url)
        if not online:
            raise ConnectionError("Name or service not known")

    def download(repository: str, file: str) -> str:
        return str(cached)

    found = None if online else cached
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *_: found)
    monkeypatch.setattr(hub, "get_hf_file_metadata", look)
    monkeypatch.setattr(hub, "hf_hub_download", download)
    return asked


@pytest.mark.slow
@pytest.mark.parametrize("online", [False, True])
def test_weights_from_the_hub_fit_another_size(
    timm: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, online: bool
) -> None:
    """The grid of position embeddings is resized, all else is as in the file."""
    published = timm.create_model(VIT.removeprefix("timm:"))
    path = tmp_path / "model.safetensors"
    save_file(published.state_dict(), path)
    asked = hub_with(monkeypatch, str(path), online)
    backbone, record = load_backbone(VIT, "default", 32)
    assert len(asked) == online
    assert record["weights"] == "timm vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    assert backbone.network.pos_embed.shape == (1, 5, 192)
    for name, value in backbone.network.state_dict().items():
        if name != "pos_embed":
            assert torch.equal(value, published.state_dict()[name])


@pytest.mark.slow
def test_without_a_network_it_says_so_in_one_line(
    timm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = hub_with(monkeypatch, None)
    with pytest.raises(FewshotError, match=r"Hugging Face hub \(Name or.*--weights FILE") as caught:
        MetaModel.load("timm:resnet10t.c3_in1k")
    assert "\n" not in str(caught.value)
    assert len(asked) == 1
    assert asked[0].endswith("resnet10t.c3_in1k/resolve/main/model.safetensors")
    assert load_backbone("timm:resnet10t", "none", 32)[1] == {"weights": "none"}
    assert len(asked) == 1


@pytest.mark.slow
def test_checkpoints_name_the_network_and_say_what_they_need(
    timm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, personal = tmp_path / "base.safetensors", tmp_path / "personal.safetensors"
    tiny_model("timm:mobilenetv3_small_050").save(base)
    folder = draw_classes(tmp_path / "things", classes(2, photos=3))
    MetaModel.load(base).adapt(folder).save(personal)
    import_module = importlib.import_module

    def without_timm(name: str) -> Any:
        if name == "timm":
            raise ModuleNotFoundError(name=name)
        return import_module(name)

    monkeypatch.setattr(importlib, "import_module", without_timm)
    for load in (lambda: MetaModel.load(base), lambda: PersonalModel.load(personal)):
        with pytest.raises(FewshotError, match=r"needs timm.*pip install \"fewshot-lite\[timm\]\""):
            load()


@pytest.mark.parametrize(
    "found", [ImportError("cannot import\nname"), RuntimeError("operator is not there"), object()]
)
def test_a_timm_that_cannot_be_used_is_refused(
    monkeypatch: pytest.MonkeyPatch, found: object
) -> None:
    def broken(name: str) -> object:
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(FewshotError, match=r"cannot be used \(.*pip install --upgrade") as caught:
        configuration("timm:resnet18")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 5000])  # empty, cut off
def test_damaged_weights_of_the_hub_are_named(
    timm: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, size: int
) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"fc.weight": torch.zeros(10, 1000)}, path)
    path.write_bytes(path.read_bytes()[:size])
    hub_with(monkeypatch, str(path))
    with pytest.raises(FewshotError, match=r"model.safetensors: damaged, .*Delete it") as caught:
        load_backbone("timm:resnet10t", "default", 32)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("published", [True, False], ids=["hub", "file"])
@pytest.mark.parametrize(
    ("change", "torchs", "ours"),
    [
        (
            lambda state, key: state.pop(key),
            r"Missing key\(s\) in state_dict: \"layer1\.0\.conv1\.weight\"\)",
            r"\('layer1\.0\.conv1\.weight' is missing\)",
        ),
        (
            lambda state, _: [state.pop(key) for key in list(state) if "layer" in key],
            r"Missing key\(s\) in state_dict: \"layer1\.0\.conv1\.weight\", .* …\)",
            r"\('layer1\.0\.conv1\.weight', .* and \d+ more are missing\)",
        ),
        (
            lambda state, key: state.update({key: torch.zeros(3, 4, 3, 3)}),
            r"size mismatch for layer1\.0\.conv1\.weight: .*\[3, 4, 3, 3\]",
            r"'layer1\.0\.conv1\.weight' has another shape: \[3, 4, 3, 3\], not \[",
        ),
    ],
)
def test_weights_that_are_not_whole_are_refused_and_said(
    timm: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    change: Callable[[dict[str, torch.Tensor], str], object],
    torchs: str,
    ours: str,
    published: bool,
) -> None:
    """timm itself passes over what is missing where the classifier is cut off."""
    state = dict(timm.create_model("resnet10t").state_dict())
    change(state, "layer1.0.conv1.weight")
    path = tmp_path / "model.safetensors"
    save_file(state, path)
    hub_with(monkeypatch, str(path))
    message = torchs if published else ours
    with pytest.raises(FewshotError, match=rf"model\.safetensors: .*{message}") as caught:
        load_backbone("timm:resnet10t", "default" if published else str(path), 32)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    assert caplog.text == ""
