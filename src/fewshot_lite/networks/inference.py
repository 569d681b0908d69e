"""Run stages of a backbone by onnxruntime, in a third of torch's time on a CPU."""

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
    """Compile stages of a backbone, with its current weights, for inference; see `stages.Staged`.

    Args:
        backbone: its weights are copied.
        size: side of the images.
        start: first stage.
        stop: the stage to stop before; None runs up to the features (B, d).
        parameters: replacements of parameters, by name in the backbone.

    Returns:
        A function of images, uint8 (B, 3, size, size), or of the output of stage `start - 1`; None
        if only torch can run it: not an EfficientNet-Lite, not on the CPU, or unsupported values.
    """
    if not isinstance(backbone.network, EfficientNetLite) or backbone.mean.device.type != "cpu":
        return None
    state = {f"network.{k}": v for k, v in backbone.network.state_dict().items()}
    state |= parameters or {}
    weights = {k.removeprefix("network."): v.detach().numpy() for k, v in state.items()}
    mean, std = (values.flatten().tolist() for values in (backbone.mean, backbone.std))
    try:
        session = open_session(lite_graph(backbone.name, size, mean, std, weights, start, stop))
    except Exception:  # values that are not finite, no onnxruntime: leave it to torch
        return None

    def run(x: Tensor) -> Tensor:
        [output] = run_session(session, None, x.numpy())
        return torch.from_numpy(output)

    return run
