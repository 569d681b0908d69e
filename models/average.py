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
from collections.abc import Iterator
from pathlib import Path
from random import Random

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from fewshot_lite.core import checkpoint
from fewshot_lite.core.devices import autocast
from fewshot_lite.core.errors import FewshotError
from fewshot_lite.core.files import check_output
from fewshot_lite.data.augment import Augmentation, random_views
from fewshot_lite.data.store import ImageStore
from fewshot_lite.networks.backbone import Backbone, has_depthwise_convolutions
from fewshot_lite.networks.weights import load_backbone
from fewshot_lite.published.data_sets import scan_data_sets

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


def images_of(
    data: Path, seen: dict[str, list[str]], no_flip: list[str]
) -> tuple[ImageStore, list[bool]]:
    """Images that the backbones were trained on, in random order, and which may be mirrored.

    Raises:
        FewshotError: there are none.
    """
    folders = [f.select(set(seen.get(f.name, []))) for f in scan_data_sets(data)]
    largest = max(len(folder.paths) for folder in folders)
    if not largest:
        raise FewshotError(f"{data}: has no classes that the backbones were trained on.")
    found = []
    for folder in folders:
        most = _LARGEST if len(folder.paths) == largest else _OTHER
        paths = Random(0).sample(list(folder.paths), min(len(folder.paths), most))
        found += [(path, folder.name not in no_flip) for path in paths]
    Random(1).shuffle(found)
    return ImageStore([path for path, _ in found], _DECODED), [mirrored for _, mirrored in found]


@torch.no_grad()
def take_statistics(backbone: Backbone, images: ImageStore, mirrored: list[bool]) -> None:
    """Replace the running statistics of all BatchNorm layers by means over these images."""
    backbone.to(memory_format=torch.channels_last)
    update_bn(_views(images, mirrored), _Cast(backbone))
    backbone.eval()


class _Cast(nn.Module):
    """The backbone in bfloat16, as it was trained."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.depthwise = has_depthwise_convolutions(backbone)

    def forward(self, images: Tensor) -> Tensor:
        with autocast(torch.device("cpu"), "auto", depthwise=self.depthwise):
            features: Tensor = self.backbone(images)
        return features


def _views(images: ImageStore, mirrored: list[bool]) -> Iterator[Tensor]:
    random = torch.Generator().manual_seed(0)
    for number, start in enumerate(range(0, len(images) - _BATCH + 1, _BATCH)):
        batch = list(range(start, start + _BATCH))
        size = _SIZES[number % len(_SIZES)]
        flip = torch.tensor([mirrored[i] for i in batch])
        yield random_views(images[batch], size, Augmentation(), flip, random)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("a", type=Path)
    parser.add_argument("b", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--weight-of-b", type=float, default=0.7)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--force", action="store_true")
    args = parser.parse_args()
    share: float = args.weight_of_b
    if not 0 <= share <= 1:
        parser.error(f"--weight-of-b {share}: must be between 0 and 1")
    try:
        check_output(args.output, force=args.force)
        first, second = (checkpoint.load(path, "backbone") for path in (args.a, args.b))
        if first.meta["backbone"] != second.meta["backbone"]:
            parser.error(f"{args.a} and {args.b} are of different networks")
        meta = {key: value for key, value in second.meta.items() if key != "figures"}  # of b alone
        backbone, _ = load_backbone(None, str(args.b), _DECODED, seed=0)
        backbone.network.load_state_dict(averaged(first.tensors, second.tensors, share))
        no_flip = meta.get("training", {}).get("no_flip", [])
        take_statistics(backbone, *images_of(args.data, meta.get("classes", {}), no_flip))
        meta["averaged"] = {args.a.name: round(1 - share, 6), args.b.name: share}
        checkpoint.save(args.output, "backbone", backbone.network.state_dict(), meta, half=True)
    except FewshotError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
