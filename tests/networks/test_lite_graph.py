"""EfficientNet-Lite as an ONNX model that was written by hand."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from fewshot_lite.networks.backbone import Backbone
from fewshot_lite.networks.lite_graph import lite_graph
from fewshot_lite.networks.lite_layout import VARIANTS
from fewshot_lite.networks.sessions import open_session, run_session


@pytest.mark.parametrize(("name", "size"), [("efficientnet_lite1", 45), ("efficientnet_lite2", 32)])
def test_features(name: str, size: int) -> None:
    torch.manual_seed(0)
    backbone = Backbone(name, size).train()
    images = torch.randint(0, 256, (17, 3, size, size), dtype=torch.uint8)
    with torch.no_grad():
        for layer in backbone.norm_layers().values():
            layer.momentum = 1.0  # type: ignore[union-attr]
            layer.bias.uniform_(-0.5, 2.0)
        backbone(images)
        expected = backbone.eval()(images)
    weights = {key: value.numpy() for key, value in backbone.network.state_dict().items()}
    mean, std = (values.flatten().tolist() for values in (backbone.mean, backbone.std))
    data = lite_graph(name, size, mean, std, weights)
    onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
    [found] = run_session(open_session(data), None, images.numpy())
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 0.05


def test_other_weights_are_refused() -> None:
    backbone = Backbone("efficientnet_lite0", 32)
    weights = {key: value.numpy() for key, value in backbone.network.state_dict().items()}
    args = "efficientnet_lite0", 32, [0.5] * 3, [0.5] * 3
    narrow = {"features.3.expand.0.weight": weights["features.3.expand.0.weight"][:5]}
    endless = {"features.0.1.running_var": np.full(32, -1, np.float32)}
    for other in ({"more": weights["features.0.1.bias"]}, narrow, endless):
        with (
            pytest.raises(ValueError, match=r"no weight|shape|not finite"),
            np.errstate(all="ignore"),
        ):
            lite_graph(*args, {**weights, **other})
    with pytest.raises(KeyError):
        lite_graph(*args, {})
    assert set(VARIANTS) == {f"efficientnet_lite{size}" for size in range(3)}
