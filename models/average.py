"""The average of two pre-trained backbones' weights, with fresh batch statistics.

    python models/average.py A.safetensors B.safetensors DATA --weight-of-b 0.7 -o C.safetensors

B must have been trained from A's weights, so that a straight line joins them without a hill
(Wortsman et al. 2022, "Model soups"). Averaged weights need running statistics of their own
(Izmailov et al. 2018, "Averaging weights leads to wider optima", section 3.2): those of up to 3,250
of the images that both were trained on (DATA as for `pretrain`), in crops of 64 and 96 px in turn.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from random import Random

import torch
from torch import Tensor, nn

from fewshot_lite import checkpoint
from fewshot_lite.backbones import Backbone, load_backbone
from fewshot_lite.data.augment import Augmentation, random_views
from fewshot_lite.data.store import ImageStore
from fewshot_lite.data.training_sets import scan_data_sets
from fewshot_lite.devices import autocast
from fewshot_lite.errors import FewshotError
from fewshot_lite.files import check_output

_BATCH = 64
#: Images of the largest data set, and of each of the others.
_LARGEST, _OTHER = 2500, 150
_SIZES = (64, 96)
_DECODED = 128


def averaged(a: dict[str, Tensor], b: dict[str, Tensor], weight: float) -> dict[str, Tensor]:
    """(1 - weight)·a + weight·b; counters are b's."""
    return {
        name: torch.lerp(a[name], value, weight) if value.is_floating_point() else value
        for name, value in b.items()
    }


def images_of(data: Path, seen: dict[str, list[str]]) -> ImageStore:
    """Images that the backbones were trained on, in random order."""
    folders = [f.select(set(seen.get(f.name, []))) for f in scan_data_sets(data)]
    largest = max(len(folder.paths) for folder in folders)
    paths = []
    for folder in folders:
        most = _LARGEST if len(folder.paths) == largest else _OTHER
        paths += Random(0).sample(list(folder.paths), min(len(folder.paths), most))
    Random(1).shuffle(paths)
    return ImageStore(paths, _DECODED)


@torch.no_grad()
def take_statistics(backbone: Backbone, images: ImageStore) -> None:
    """Replace the running statistics of all BatchNorm layers by means over these images."""
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # cumulative
    backbone.train().to(memory_format=torch.channels_last)
    random = torch.Generator().manual_seed(0)
    flip = torch.ones(_BATCH, dtype=torch.bool)
    device = torch.device("cpu")
    for number, start in enumerate(range(0, len(images) - _BATCH + 1, _BATCH)):
        pixels = images[list(range(start, start + _BATCH))]
        size = _SIZES[number % len(_SIZES)]
        with autocast(device, "auto", depthwise=False):
            backbone(random_views(pixels, size, Augmentation(), flip, random))
    backbone.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("a", type=Path)
    parser.add_argument("b", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--weight-of-b", type=float, default=0.7)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--force", action="store_true")
    args = parser.parse_args()
    try:
        check_output(args.output, force=args.force)
        first, second = (checkpoint.load(path, "backbone") for path in (args.a, args.b))
        if first.meta["backbone"] != second.meta["backbone"]:
            parser.error(f"{args.a} and {args.b} are of different networks")
        backbone, _ = load_backbone(None, str(args.b), _DECODED, seed=0)
        weights = averaged(first.tensors, second.tensors, args.weight_of_b)
        backbone.network.load_state_dict(weights)
        take_statistics(backbone, images_of(args.data, second.meta["classes"]))
        share = args.weight_of_b
        meta = second.meta | {"averaged": {str(args.a): 1 - share, str(args.b): share}}
        checkpoint.save(args.output, "backbone", backbone.network.state_dict(), meta, half=True)
    except FewshotError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
