"""Resolve `--base` and `--weights`, before torch is imported.

    --base default | NAME | FILE      a meta-trained checkpoint: shipped, by its name, or a file
    --base resnet18                   torchvision's network with its ImageNet weights
    --base resnet18 --weights FILE    the same with weights of one's own
    --base timm:NAME                  timm's network with its own weights

The name of a network wins over a file of that name: write ./resnet18 for the file.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from fewshot_lite.core.errors import UsageError
from fewshot_lite.core.files import DEFAULT_BASE, as_path, check_file, find_base, models_folder
from fewshot_lite.networks.names import NETWORKS, TIMM, near


@dataclass(frozen=True)
class Base:
    """Either a meta-trained checkpoint or a network with weights."""

    checkpoint: Path | None = None
    network: str | None = None
    weights: Path | None = None
    """The file of the network's weights; None for the published ones."""

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that were named, and will be read."""
        return tuple(path for path in (self.checkpoint, self.weights) if path is not None)


def parse_base(base: str | Path = DEFAULT_BASE, weights: str | Path | None = None) -> Base:
    """Resolve the values of `--base` and `--weights`.

    Raises:
        UsageError: no such file, model or network; weights without the name of a network.
    """
    text = str(base)  # a Path would drop the "./" of a file's name
    if not text:  # Path("") would be the current folder
        raise UsageError("--base is an empty word. Give a file, or the name of a model.")
    as_path(base, "base")  # refuses values of other types
    shipped = [path.stem for path in sorted(models_folder().glob("*.safetensors"))]
    known = text in (DEFAULT_BASE, *shipped)
    network = text in NETWORKS or text.startswith(TIMM)
    if network and not (known and weights is None):
        return Base(network=text, weights=_weights(weights))
    if weights is not None:
        hint = near(text) or " E.g. --base resnet18 --weights FILE."
        raise UsageError(
            f"--weights {weights}: goes with --base and the name of one of torchvision's "
            f"networks, not with {text!r}.{hint}"
        )
    path = Path(base)
    if known or os.path.lexists(path) or path.suffix or os.sep in text:
        _refuse_state_dict(path)
        return Base(checkpoint=find_base(base))
    hint = near(text, (DEFAULT_BASE, *shipped))
    raise UsageError(
        f"--base {base}: no such file, and no model of this name.{hint} Shipped: "
        f"{', '.join((DEFAULT_BASE, *shipped)) if shipped else 'none'}. With a network, any of "
        "torchvision's, e.g. efficientnet_b0, or timm:NAME."
    )


def _weights(weights: str | Path | None) -> Path | None:
    if weights is None or str(weights) == "default":
        return None
    path = as_path(weights, "weights")
    check_file(path, f"--weights {path}")
    return path


def _refuse_state_dict(path: Path) -> None:
    if path.suffix in (".pth", ".pt") and os.path.isfile(path):
        name = max((n for n in NETWORKS if path.name.startswith(n)), key=len, default="resnet18")
        raise UsageError(
            f"--base {path}: weights of a network, not a model of fewshot-lite. Name the network: "
            f"--base {name} --weights {path}"
        )
