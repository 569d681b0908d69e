"""Names of the networks that `--base` accepts, without importing torch.

Networks without normalisation layers (AlexNet, SqueezeNet, plain VGG) and those that
`networks.architectures` does not support (GoogLeNet, Inception v3, MNASNet) are left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

#: Prefix of the names of timm's networks, e.g. timm:resnet18.
TIMM = "timm:"

#: Families of networks, and the rest of their members' names.
_FAMILIES = {
    "convnext_": "tiny small base large",
    "densenet": "121 161 169 201",
    "efficientnet_": "b0 b1 b2 b3 b4 b5 b6 b7 lite0 lite1 lite2 v2_s v2_m v2_l",
    "maxvit_": "t",
    "mobilenet_": "v2 v3_small v3_large",
    "regnet_x_": "400mf 800mf 1_6gf 3_2gf 8gf 16gf 32gf",
    "regnet_y_": "400mf 800mf 1_6gf 3_2gf 8gf 16gf 32gf 128gf",
    "resnet": "18 34 50 101 152",
    "resnext": "50_32x4d 101_32x8d 101_64x4d",
    "shufflenet_v2_x": "0_5 1_0 1_5 2_0",
    "swin_": "t s b v2_t v2_s v2_b",
    "vgg": "11_bn 13_bn 16_bn 19_bn",
    "vit_": "b_16 b_32 l_16 l_32 h_14",
    "wide_resnet": "50_2 101_2",
}

#: Every network that can be a backbone.
NETWORKS = tuple(
    family + member for family, members in _FAMILIES.items() for member in members.split()
)


def near(name: str, others: Iterable[str] = ()) -> str:
    """Return a hint for an unknown name: " Did you mean …?", or ""."""
    close = get_close_matches(name.lower(), [*others, *NETWORKS], n=3, cutoff=0.7)
    return f" Did you mean {' or '.join(close)}?" if close else ""
