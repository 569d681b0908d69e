"""Small folders of drawn photos, and a tiny base model, for tests of everything above the engine.

The names of the functions are the folders they draw: `draw_classes(tmp, {"mug": 3, "keys": 2})`.
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from pathlib import Path
from random import Random

import torch
from PIL import Image, ImageDraw

from fewshot_lite.core import checkpoint
from fewshot_lite.learners import SimpleCnaps
from fewshot_lite.networks.backbone import Backbone
from fewshot_lite.personal.bulk.manifest import MANIFEST
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.training.meta_config import MetaTrainConfig
from fewshot_lite.training.pretrain_config import PretrainConfig

#: Side of the tests' images.
SIZE = 32

#: Meta-training that takes less than a second on `draw_classes(…, classes(5, photos=8))`.
QUICK = MetaTrainConfig(
    learner="protonets",
    backbone="shufflenet_v2_x0_5",
    image_size=SIZE,
    min_way=3,
    max_way=4,
    max_support=12,
    max_shot=4,
    queries=2,
    tasks=6,
    tasks_per_step=2,
    h=4,
    shifts=0.0,
    save_every=2,
    precision="float32",
)

#: Pre-training that takes a second on the same.
QUICK_PRETRAIN = PretrainConfig(
    backbone="shufflenet_v2_x0_5",
    image_size=SIZE,
    min_image_size=SIZE,
    epochs=3,
    batch_size=8,
    lr=0.02,
    precision="float32",
)


def classes(number: int, *, photos: int) -> dict[str, int]:
    """That many class names with that many photos each."""
    return {f"thing {k}": photos for k in range(number)}


def draw_classes(folder: Path, shots: Mapping[str, int], *, seed: int = 0) -> Path:
    """A folder with one folder per class; a class is a shape in a colour, its photos vary."""
    for number, (name, photos) in enumerate(shots.items()):
        home = folder / name
        home.mkdir(parents=True)
        for i in range(photos):
            draw_photo(number, Random(f"{seed}/{number}/{i}")).save(home / f"{i:02d}.png")
    return folder


def draw_photo(number: int, rng: Random, size: int = SIZE) -> Image.Image:
    """One photo of class `number`: a disc, a box or a triangle on a dull background."""
    grey = rng.randint(60, 200)
    image = Image.new("RGB", (size, size), (grey, grey, grey))
    hue = (0.61803 * number + rng.uniform(-0.02, 0.02)) % 1
    red, green, blue = (round(255 * c) for c in colorsys.hsv_to_rgb(hue, 0.9, 0.9))
    side = size * rng.uniform(0.5, 0.7)
    x, y = (rng.uniform(0, size - side) for _ in range(2))
    pen, box = ImageDraw.Draw(image), (x, y, x + side, y + side)
    if number % 3 == 0:
        pen.ellipse(box, (red, green, blue))
    elif number % 3 == 1:
        pen.rectangle(box, (red, green, blue))
    else:
        pen.polygon([(x, y + side), (x + side, y + side), (x + side / 2, y)], (red, green, blue))
    return image


def tiny_model(name: str = "shufflenet_v2_x0_5") -> MetaModel:
    """A base that was never trained, whose features differ and whose FiLM does something."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = Backbone(name, SIZE).train()
        for layer in backbone.norm_layers().values():
            layer.momentum = 1.0  # type: ignore[union-attr]
        backbone(torch.rand(128, 3, SIZE, SIZE))  # running statistics: else depth dampens all
        learner = SimpleCnaps(backbone.eval(), embedding_dim=8, encoder_size=16)
        for parameter_name, parameter in learner.film.named_parameters():
            if parameter_name.endswith(("rho", "sigma")):
                torch.nn.init.normal_(parameter, 0.0, 0.3)
    return MetaModel(learner, SIZE)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder: to show that nothing was left behind and nothing was changed.

    But for the list that `--sort-into` keeps in its folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }


def redescribe(path: Path, changes: dict[str, object], without: str = "") -> None:
    """Give a meta-trained model's file a description that differs from what was written."""
    file = checkpoint.load(path, "meta")
    dropped = ("kind", "format", without)
    meta = {key: value for key, value in file.meta.items() if key not in dropped}
    checkpoint.save(path, "meta", file.tensors, meta | changes)
