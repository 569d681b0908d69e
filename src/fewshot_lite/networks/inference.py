"""Stages of a backbone without gradients, by onnxruntime where that can run them: in a third of
the time that torch takes on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from fewshot_lite.networks.backbone import Backbone
from fewshot_lite.networks.efficientnet_lite import EfficientNetLite
from fewshot_lite.networks.lite_graph import lite_graph
from fewshot_lite.networks.sessions import open_session, run_session


def compiled(
    backbone: Backbone,
    size: int,
    *,
    start: int = 0,
    stop: int | None = None,
    parameters: Mapping[str, Tensor] | None = None,
) -> Callable[[Tensor], Tensor] | None:
    """Stages of a backbone as they are now, for images of a size; see `stages.Staged`.

    Args:
        backbone: which is not changed by later changes of it.
        size: side of the images.
        start: first stage.
        stop: the stage before which to stop; None to go on to the features (B, d).
        parameters: those of the backbone that have other values, by their names in it.

    Returns:
        Takes images, uint8 (B, 3, size, size), or what stage `start - 1` gave. None where torch has
        to run it: another network than EfficientNet-Lite, another device than the CPU, other types.
    """
    if not isinstance(backbone.network, EfficientNetLite) or backbone.mean.device.type != "cpu":
        return None
    state = {f"network.{k}": v for k, v in backbone.network.state_dict().items()}
    state |= parameters or {}
    weights = {k.removeprefix("network."): v.detach().numpy() for k, v in state.items()}
    mean, std = (values.flatten().tolist() for values in (backbone.mean, backbone.std))
    try:
        session = open_session(lite_graph(backbone.name, size, mean, std, weights, start, stop))
    except Exception:  # values that are not finite, no onnxruntime: torch does it, or says so
        return None

    def run(x: Tensor) -> Tensor:
        [found] = run_session(session, None, x.numpy())
        return torch.from_numpy(found)

    return run
