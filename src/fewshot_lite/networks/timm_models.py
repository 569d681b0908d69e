"""Networks of timm (PyTorch Image Models) as backbones: `timm:NAME`, with the extra `timm`.

timm removes the classification layer itself, and describes the images that its weights expect.
Weights are downloaded from the Hugging Face hub, as safetensors, unless they are in its cache.
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

#: Timeout of the hub in seconds.
_TIMEOUT = 10.0
#: Characters of a reason shown in a message.
_LONGEST = 200
#: Pickled files on the hub -> the same weights as safetensors.
_SAFE = {None: "model.safetensors", "open_clip_pytorch_model.bin": "open_clip_model.safetensors"}


def _timm(name: str) -> Any:
    """Import timm; raise FewshotError if it is not installed or not usable."""
    try:
        timm = importlib.import_module("timm")
        timm.get_pretrained_cfg  # noqa: B018  # missing in old versions
    except Exception as error:  # versions that do not fit torch fail in many ways
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
    """Return timm's `PretrainedCfg` of a network: its images' size, mean and std, its weights.

    Raises:
        FewshotError: timm is not installed.
        UsageError: timm does not have the network, or these weights of it.
    """
    timm = _timm(name)
    timm_name = name.removeprefix(TIMM)
    known = timm.list_models() if "." not in timm_name else timm.list_pretrained()
    if timm_name not in known:
        close = get_close_matches(timm_name.lower(), known, n=2, cutoff=0.6)
        near = " or ".join(TIMM + name for name in close)
        raise UsageError(
            f"backbone {name!r}: timm {timm.__version__} has no such network. "
            + (f"Did you mean {near}?" if near else "timm.list_models() has their names.")
        )
    return timm.get_pretrained_cfg(timm_name)


def build(name: str, image_size: int, classes: int = 0, **options: Any) -> tuple[nn.Module, int]:
    """Build a network; return it and its feature width.

    Args:
        name: `timm:NAME`.
        image_size: side of the images in pixels.
        classes: outputs of its classifier; 0 removes the classifier.
        options: of `timm.create_model`.

    Raises:
        FewshotError, UsageError: as `configuration`.
        ValueError, AssertionError: it cannot be built for images of this size.
    """
    if configuration(name).fixed_input_size:
        options["img_size"] = image_size
    try:
        create = _timm(name).create_model
        network: Any = create(name.removeprefix(TIMM), num_classes=classes, **options)
    except TypeError as error:  # raised by networks that support a single size
        raise ValueError(str(error)) from None
    return network, int(getattr(network, "head_hidden_size", None) or network.num_features)


def fetch(name: str, image_size: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the state dict of a network's published weights, and a record of their origin.

    It includes the classifier, as timm loads strictly only if that is kept.

    Raises:
        FewshotError: the weights cannot be downloaded, or are damaged.
    """
    config = configuration(name)
    path = _download(name, config.hf_hub_id, config.hf_hub_filename)
    try:
        overlay = {"file": path}
        network, _ = build(
            name, image_size, config.num_classes, pretrained=True, pretrained_cfg_overlay=overlay
        )
    except (SafetensorError, OSError, RuntimeError) as error:
        # Strict loading names the tensors after its first line, and may name many.
        reason = shorten(str(error), _LONGEST, placeholder=" …").rstrip(".") or first_line(error)
        raise FewshotError(
            f"{path}: damaged, or not the weights of {name} ({reason}). Delete it, and it will be "
            "downloaded again."
        ) from None
    record = {"weights": f"timm {config.architecture}.{config.tag}", "sha256": sha256(Path(path))}
    return network.state_dict(), record


def _download(name: str, repository: str | None, file: str | None) -> str:
    """Return the path of a file of weights in the hub's cache, after downloading it if missing."""
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
        # Ask for metadata first, as the download would retry for a minute without a network.
        hub.get_hf_file_metadata(hub.hf_hub_url(repository, file), timeout=_TIMEOUT)
        return str(hub.hf_hub_download(repository, file))
    except Exception as error:  # of the hub, its client or the system
        raise FewshotError(
            f"The weights of {name} could not be had from the Hugging Face hub "
            f"({first_line(error)}). Without a network use the shipped model (leave --base out), a "
            "checkpoint of your own (--base FILE), or --weights FILE with a copy of them."
        ) from None
