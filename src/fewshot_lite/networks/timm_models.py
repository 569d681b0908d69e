"""Any network of timm (PyTorch Image Models) as a backbone: `timm:NAME`, with the extra `timm`.

timm cuts off the classification layer itself, and says what images its weights expect. Weights come
from the Hugging Face hub, as safetensors, when they are asked for and not in its cache yet.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor, nn

from fewshot_lite.core.errors import FewshotError, UsageError, first_line
from fewshot_lite.core.files import sha256
from fewshot_lite.networks.names import TIMM
from fewshot_lite.networks.states import NotTheWeights, loaded_whole

#: Seconds without a byte after which the hub counts as out of reach.
_PATIENCE = 10.0
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


def build(name: str, image_size: int, **options: Any) -> tuple[nn.Module, int]:
    """A network that ends in features, and their width.

    Raises:
        FewshotError, UsageError: as `configuration`.
        ValueError, AssertionError: it cannot be built for images of this size.
    """
    if configuration(name).fixed_input_size:
        options["img_size"] = image_size
    try:
        network: Any = _timm(name).create_model(name.removeprefix(TIMM), num_classes=0, **options)
    except TypeError as error:  # of networks that have one size only
        raise ValueError(str(error)) from None
    return network, int(getattr(network, "head_hidden_size", None) or network.num_features)


def fetch(name: str, image_size: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The state dict of a network's published weights, for images of a size, and a record of them.

    Raises:
        FewshotError: they cannot be had.
    """
    found = configuration(name)
    path = _download(name, found.hf_hub_id, found.hf_hub_filename)
    try:
        with loaded_whole(), _quiet():
            overlay = {"file": path}
            network, _ = build(name, image_size, pretrained=True, pretrained_cfg_overlay=overlay)
    except (NotTheWeights, SafetensorError, OSError, RuntimeError) as error:
        raise FewshotError(
            f"{path}: damaged, or not the weights of {name} ({first_line(error)}). Delete it, and "
            "it will be downloaded again."
        ) from None
    record = {"weights": f"timm {found.architecture}.{found.tag}", "sha256": sha256(Path(path))}
    return network.state_dict(), record


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """While entered, timm lists no tensors that it has no use for: a classifier's, say."""
    logger = logging.getLogger("timm")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


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
