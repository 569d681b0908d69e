"""torchvision networks as backbones, and their weights from wherever they come."""

from __future__ import annotations

import os
import pickle
from functools import cache
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torchvision import models

from fewshot_lite.core import checkpoint
from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.networks.backbone import Backbone, has_depthwise_convolutions
from fewshot_lite.networks.weights import load_backbone

#: A small network whose classification layer is called `fc`, as resnets' is.
SMALL = "shufflenet_v2_x0_5"


@cache
def published() -> dict[str, Tensor]:
    """A state dict as torchvision publishes it: with the classification layer, not ours by seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(123)
        state: dict[str, Tensor] = models.get_model(SMALL, weights=None).state_dict()
    assert "fc.weight" in state
    return state


def assert_published(backbone: Backbone) -> None:
    """The backbone is in evaluation mode and has the published weights."""
    assert not any(module.training for module in backbone.modules())
    own = backbone.network.state_dict()
    assert own
    for name, value in own.items():
        torch.testing.assert_close(value, published()[name], rtol=0, atol=0)


def refusal(name: str | None, weights: Path | str) -> tuple[type[FewshotError], str]:
    """Class and text of the error with which weights are refused."""
    with pytest.raises(FewshotError) as caught:
        load_backbone(name, str(weights), 64)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert "\x1b" not in message
    assert str(weights) in message or not isinstance(weights, Path)
    return caught.type, message


@pytest.mark.parametrize(
    ("name", "width"),
    [
        ("resnet18", 512),
        ("efficientnet_b0", 1280),
        ("mobilenet_v3_large", 1280),
        ("regnet_y_400mf", 440),
        ("convnext_tiny", 768),
        ("swin_t", 768),
    ],
)
def test_features_are_what_the_last_layer_was_given(name: str, width: int) -> None:
    backbone = Backbone(name).eval()
    assert backbone.feature_dim == width
    with torch.no_grad():
        assert backbone(torch.rand(2, 3, 32, 32)).shape == (2, width)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("resnet_18", "there is no such network"),
        ("fcn_resnet50", "there is no such network"),  # segmentation
        ("alexnet", "no normalisation layers"),
        ("squeezenet1_0", "not supported"),
        ("googlenet", "not supported"),
        ("inception_v3", "not supported"),
    ],
)
def test_a_network_that_cannot_be_a_backbone_is_refused(name: str, reason: str) -> None:
    with pytest.raises(UsageError, match=rf"^backbone '{name}': .*{reason}.*resnet18.*\.$"):
        Backbone(name)


@pytest.mark.parametrize("name", ["vit_b_16", "maxvit_t"])
def test_an_image_size_that_a_grid_does_not_divide_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=rf"^backbone '{name}' at 100 px: .*divisible.*\.$"):
        Backbone(name, image_size=100)


def test_the_seed_says_which_weights() -> None:
    def weights(seed: int) -> Tensor:
        return torch.cat([p.flatten() for p in Backbone(SMALL, seed=seed).parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_building_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    Backbone(SMALL, seed=5)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture
def small() -> Backbone:
    return Backbone(SMALL).eval().requires_grad_(False)


def test_features_are_float32_whatever_autocast_does(small: Backbone) -> None:
    images = torch.rand(2, 3, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        features = small(images)
    assert features.dtype == torch.float32
    assert not torch.equal(features, small(images))  # inside, it did something


def test_a_float64_backbone_gives_float64_features(small: Backbone) -> None:
    assert small.double()(torch.rand(1, 3, 32, 32).double()).dtype == torch.float64


def test_bytes_and_floats_of_an_image_agree(small: Backbone) -> None:
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    torch.testing.assert_close(small(images), small(images / 255))


def test_images_are_standardised_as_published_weights_expect(small: Backbone) -> None:
    seen: list[Tensor] = []
    small.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    small(torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1).expand(1, 3, 32, 32))
    small(torch.ones(1, 3, 32, 32))
    torch.testing.assert_close(seen[0], torch.zeros(1, 3, 32, 32))
    expected = torch.tensor([0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225])
    torch.testing.assert_close(seen[1][0, :, 7, 7], expected)


def test_evaluation_has_no_dropout_and_does_not_couple_images() -> None:
    backbone, _ = load_backbone(
        "efficientnet_b0", "none", 32
    )  # it has dropout and stochastic depth
    backbone.double().requires_grad_(False)
    images = torch.rand(3, 3, 32, 32).double()
    together = backbone(images)
    assert torch.equal(backbone(images), together)
    alone = torch.cat([backbone(image[None]) for image in images])
    assert float((alone - together).abs().max() / together.abs().max()) < 1e-10


def test_depthwise_convolutions_are_noticed() -> None:
    with torch.device("meta"):
        assert has_depthwise_convolutions(Backbone("mobilenet_v3_small"))
        assert not has_depthwise_convolutions(Backbone("resnet18"))


def test_random_weights_are_a_resnet18s_unless_told_otherwise() -> None:
    backbone, record = load_backbone(None, "none", 64, seed=3)
    assert backbone.name == "resnet18"
    assert record == {"weights": "none"}
    expected = Backbone("resnet18", seed=3).state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in backbone.state_dict().items())


@pytest.mark.parametrize("key", [None, "state_dict", "model"])
def test_a_pth_of_a_state_dict_is_read(tmp_path: Path, key: str | None) -> None:
    path = tmp_path / "weights.pth"
    torch.save({key: published(), "epoch": 9} if key else published(), path)
    backbone, record = load_backbone(SMALL, str(path), 64)
    assert_published(backbone)
    assert record == {"weights": "weights.pth", "sha256": checkpoint.sha256(path)}


def test_foreign_safetensors_of_a_state_dict_are_read(tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    save_file(published(), path)
    assert_published(load_backbone(SMALL, str(path), 64)[0])


def test_a_pretrained_backbone_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "backbone.safetensors"
    kept = {k: v for k, v in published().items() if not k.startswith("fc.")}
    checkpoint.save(path, "backbone", kept, {"backbone": SMALL, "image_size": 96})
    for name in (None, SMALL):
        backbone, record = load_backbone(name, str(path), 64)
        assert backbone.name == SMALL
        assert_published(backbone)
        assert record["pretrained"]["image_size"] == 96
    kind, message = refusal("resnet18", path)
    assert kind is UsageError
    assert message.startswith("--backbone resnet18 does not match --weights")
    assert SMALL in message


@pytest.mark.parametrize("kind", ["personal", "meta"])
def test_a_file_of_another_kind_is_no_backbone(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file.safetensors"
    checkpoint.save(path, kind, published(), {"backbone": SMALL})
    error, message = refusal(None, path)
    assert error is UsageError
    assert f"a {kind} file, not a backbone" in message


@pytest.mark.parametrize("held", [None, 3])
def test_a_backbone_file_must_name_its_network(tmp_path: Path, held: int | None) -> None:
    path = tmp_path / "file.safetensors"
    checkpoint.save(path, "backbone", published(), {"backbone": held} if held else {})
    assert "description is damaged" in refusal(None, path)[1]


@pytest.mark.parametrize("weights", ["missing.pth", "missing.safetensors", "defualt"])
def test_missing_weights_are_named(tmp_path: Path, weights: str) -> None:
    error, message = refusal(None, tmp_path / weights)
    assert error is UsageError
    assert message.endswith("no such file. Give a file or 'default'.")


def test_a_folder_is_no_file_of_weights(tmp_path: Path) -> None:
    error, message = refusal(None, tmp_path)
    assert error is UsageError
    assert "a folder" in message


class Malicious:
    """Unpickled, it creates a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle", "nested"])
def test_a_pickle_is_refused_and_not_run(tmp_path: Path, form: str) -> None:
    trap, path = tmp_path / "trap", tmp_path / "weights.pth"
    if form == "pickle":
        path.write_bytes(pickle.dumps(Malicious(trap)))
    else:
        content = (
            {**published(), "fc.bias": Malicious(trap)} if form == "nested" else Malicious(trap)
        )
        torch.save(content, path, _use_new_zipfile_serialization=form != "legacy")
    assert "not safe to read" in refusal(SMALL, path)[1]
    assert not trap.exists()


def test_a_pickled_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "network.pth"
    torch.save(torch.nn.Linear(2, 2), path)
    assert "Save the network's state_dict()" in refusal(None, path)[1]


@pytest.mark.parametrize("content", [b"", b"some text", bytes(range(256)) * 9])
@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_other_files_are_refused(tmp_path: Path, content: bytes, ending: str) -> None:
    path = tmp_path / f"weights{ending}"
    path.write_bytes(content)
    error, message = refusal(None, path)
    assert error is FewshotError
    assert "damaged" in message or "not a safetensors file" in message


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_truncated_files_are_refused(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"weights{ending}"
    (torch.save if ending == ".pth" else save_file)(published(), path)
    path.write_bytes(path.read_bytes()[:-1000])
    assert "damaged" in refusal(SMALL, path)[1]


@pytest.mark.parametrize(
    "content",
    [[torch.zeros(2)], torch.zeros(2), {1: torch.zeros(2)}, {"a": 1.0}, {"model": {"a": "b"}}],
    ids=["list", "tensor", "numbered", "numbers", "words"],
)
def test_tensors_without_names_are_refused(tmp_path: Path, content: object) -> None:
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    assert "holds no state dict" in refusal(None, path)[1]


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(published(), path)
    message = refusal(None, path)[1]
    assert "not the weights of a resnet18 ('conv1.weight', 'bn1.weight', 'bn1.bias' and " in message
    assert "more are missing). Give this network's" in message


def test_weights_of_other_shapes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({**published(), "conv5.1.bias": torch.zeros(5)}, path)
    expected = f"not the weights of a {SMALL} ('conv5.1.bias' has another shape: [5], not [1024])."
    assert expected in refusal(SMALL, path)[1]


def test_missing_tensors_are_named(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({k: v for k, v in published().items() if k != "conv5.1.bias"}, path)
    assert "('conv5.1.bias' is missing)" in refusal(SMALL, path)[1]


def test_torchvisions_own_weights_are_checked_by_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def download(url: str, **options: Any) -> dict[str, Tensor]:
        asked.update(options, url=url)
        return published()

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", download)
    backbone, record = load_backbone(SMALL, "default", 64)
    assert_published(backbone)
    assert asked["check_hash"] is True
    assert asked["url"].startswith("https://")
    assert record == {"weights": "torchvision ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1"}


@pytest.mark.parametrize(
    "error",
    [URLError("Name or service not known"), RuntimeError('invalid hash value (expected "f37")\n.')],
    ids=["offline", "wrong hash"],
)
def test_weights_that_cannot_be_had_leave_alternatives(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def download(url: str, **options: Any) -> dict[str, Tensor]:
        raise error

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", download)
    kind, message = refusal(SMALL, "default")
    assert kind is FewshotError
    for part in (f"ImageNet weights of {SMALL}", "--base", "--weights FILE", "--weights none"):
        assert part in message
