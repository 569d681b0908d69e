"""Any network of timm (PyTorch Image Models) as a backbone: `timm:NAME`, with the extra `timm`.

timm cuts off the classification layer itself, and says what images its weights expect. Weights come
from the Hugging Face hub, as safetensors, when they are asked for and not in its cache yet.
"""

from __future__ import annotations

import importlib
from difflib import get_close_matches
from pathlib import Path
from textwrap import shorten
from typing import Any

from safetensors import SafetensorError
from torch import Tensor, nn

from fewshot_lite.core.errors import FewshotError, UsageError, first_line
from fewshot_lite.core.files import sha256
from fewshot_lite.networks.names import TIMM

#: Seconds without a byte after which the hub counts as out of reach.
_PATIENCE = 10.0
#: Characters of a reason that a message has.
_LONGEST = 200
#: Files on the hub that are pickles, and the same weights as safetensors.
_SAFE = {None: "model.safetensors", "open_clip_pytorch_model.bin": "open_clip_model.safetensors"}


def _timm(name: str) -> Any:
    """The library.

    Raises:
        FewshotError: it is not installed, or cannot be used as it is.
    """
    try:
        timm = importlib.import_module("timm")
        timm.get_pretrained_cfg  # noqa: B018  # which old ones do not have
    except Exception as error:  # one that does not fit torch fails in any way
        if isinstance(error, ModuleNotFoundError) and error.name == "timm":
            raise FewshotError(
                f"backbone {name!r}: needs timm, which is not installed. Install it: "
                'pip install "fewshot-lite[timm]".'
            ) from None
        raise FewshotError(
            f"backbone {name!r}: needs timm, and the one installed cannot be used "
            f"({first_line(error)}). Install another: pip install --upgrade timm."
        ) from None
    return timm


def configuration(name: str) -> Any:
    """timm's `PretrainedCfg` of a network: size, mean and deviation of its images, its weights.

    Raises:
        FewshotError: timm is not installed.
        UsageError: it has no such network, or no such weights of it.
    """
    timm = _timm(name)
    own = name.removeprefix(TIMM)
    known = timm.list_models() if "." not in own else timm.list_pretrained()
    if own not in known:
        close = get_close_matches(own.lower(), known, n=2, cutoff=0.6)
        near = " or ".join(TIMM + name for name in close)
        raise UsageError(
            f"backbone {name!r}: timm {timm.__version__} has no such network. "
            + (f"Did you mean {near}?" if near else "timm.list_models() has their names.")
        )
    return timm.get_pretrained_cfg(own)


def build(name: str, image_size: int, classes: int = 0, **options: Any) -> tuple[nn.Module, int]:
    """A network that ends in features, and their width.

    Args:
        name: `timm:NAME`.
        image_size: of its images, in pixels.
        classes: with a classifier of so many on the features, if there are any.
        options: what else `timm.create_model` takes.

    Raises:
        FewshotError, UsageError: as `configuration`.
        ValueError, AssertionError: it cannot be built for images of this size.
    """
    if configuration(name).fixed_input_size:
        options["img_size"] = image_size
    try:
        create = _timm(name).create_model
        network: Any = create(name.removeprefix(TIMM), num_classes=classes, **options)
    except TypeError as error:  # of networks that have one size only
        raise ValueError(str(error)) from None
    return network, int(getattr(network, "head_hidden_size", None) or network.num_features)


def fetch(name: str, image_size: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The state dict of a network's published weights, for images of a size, and a record of them.

    The classifier is in it: only where that stays does timm refuse weights that are not whole.

    Raises:
        FewshotError: they cannot be had, or are not whole.
    """
    found = configuration(name)
    path = _download(name, found.hf_hub_id, found.hf_hub_filename)
    try:
        overlay = {"file": path}
        network, _ = build(
            name, image_size, found.num_classes, pretrained=True, pretrained_cfg_overlay=overlay
        )
    except (SafetensorError, OSError, RuntimeError) as error:
        # Of strict loading the first lines, as the first alone names no tensor, and others many.
        reason = shorten(str(error), _LONGEST, placeholder=" …").rstrip(".") or first_line(error)
        raise FewshotError(
            f"{path}: damaged, or not the weights of {name} ({reason}). Delete it, and it will be "
            "downloaded again."
        ) from None
    record = {"weights": f"timm {found.architecture}.{found.tag}", "sha256": sha256(Path(path))}
    return network.state_dict(), record


def _download(name: str, repository: str | None, file: str | None) -> str:
    """The path of a file of weights in the hub's cache, downloaded if it is not there yet."""
    if repository is None:
        raise FewshotError(
            f"backbone {name!r}: timm has no weights of it. Give a file (--weights FILE), or "
            "another network."
        )
    file = _SAFE.get(file, file)
    try:
        hub = importlib.import_module("huggingface_hub")  # timm needs it
        cached = hub.try_to_load_from_cache(repository, file)
        if isinstance(cached, str):
            return cached
        # A short question first: without a network the download itself retries for a minute.
        hub.get_hf_file_metadata(hub.hf_hub_url(repository, file), timeout=_PATIENCE)
        return str(hub.hf_hub_download(repository, file))
    except Exception as error:  # of the hub, of its client, of the system
        raise FewshotError(
            f"The weights of {name} could not be had from the Hugging Face hub "
            f"({first_line(error)}). Without a network use the shipped model (leave --base out), a "
            "checkpoint of your own (--base FILE), or --weights FILE with a copy of them."
        ) from None
