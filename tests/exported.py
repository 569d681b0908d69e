"""Personal models of a small network, which export in a second, for tests of what is exported."""

from __future__ import annotations

import tempfile
from collections import OrderedDict
from functools import cache
from pathlib import Path

import torch
from torch import nn

from fewshot_lite.heads.base import Head
from fewshot_lite.heads.mahalanobis import MahalanobisHead
from fewshot_lite.networks.backbone import Backbone
from fewshot_lite.personal.export.writing import export_model
from fewshot_lite.personal.personal_model import PersonalModel
from photos import SIZE
from tiny import personal_of

#: Width of the features.
WIDTH = 8


def small_personal(head: Head | None = None, shots: tuple[int, ...] = (6, 6)) -> PersonalModel:
    """A model of one convolution, with that many support images of each class."""
    torch.manual_seed(0)
    backbone = Backbone("shufflenet_v2_x0_5", SIZE, initialise=False)
    layers = {"conv": nn.Conv2d(3, WIDTH, 3, 2), "relu": nn.ReLU()}
    layers |= {"avgpool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    backbone.network = nn.Sequential(OrderedDict(layers))
    backbone.feature_dim = WIDTH
    labels = torch.arange(len(shots)).repeat_interleave(torch.tensor(shots))
    hues = torch.rand(len(shots), 3, 1, 1)
    images = 0.7 * hues[labels] + 0.3 * torch.rand(len(labels), 3, SIZE, SIZE)
    with torch.no_grad():
        features = backbone(images)
    names = tuple(f"thing {k} ü" for k in range(len(shots)))
    head = MahalanobisHead(root=True) if head is None else head
    return personal_of(backbone, head, features, labels, names, SIZE, {"base": {"name": "none"}})


@cache
def exported_small_personal() -> bytes:
    """`small_personal` in ONNX."""
    with tempfile.TemporaryDirectory() as folder:
        return export_model(small_personal(), Path(folder) / "small.onnx").path.read_bytes()
