"""torchvision comes without torch's compiler, and networks without weights that are loaded next."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

from fewshot_lite.networks import torchvision_models as vision_models
from fewshot_lite.networks.backbone import Backbone

_IMPORTS = """
import sys
import torch, fewshot_lite, fewshot_lite.evaluation.opening
personal = fewshot_lite.load().adapt(torch.rand(4, 3, 224, 224), ["a", "a", "b", "b"])
personal.save("p.safetensors")
fewshot_lite.PersonalModel.load("p.safetensors")
assert "torch._dynamo" not in sys.modules
assert "torch._dynamo.utils" not in sys.modules
assert "sympy" not in sys.modules
assert "torchvision" not in sys.modules
"""


@pytest.mark.slow
def test_the_compiler_is_not_imported(tmp_path: Path) -> None:
    code = f"import os; os.chdir({str(tmp_path)!r})\n{_IMPORTS}"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_torchvision_finds_the_compiler_when_it_asks() -> None:
    roi_align = import_module("torchvision.ops.roi_align")
    assert isinstance(roi_align.is_compile_supported("cpu"), bool)
    compiler = import_module("torch._dynamo.utils")
    assert not isinstance(compiler, vision_models._StandIn)
    for device in ("cpu", "meta"):
        assert roi_align.is_compile_supported(device) == compiler.is_compile_supported(device)


@pytest.mark.slow
def test_networks_without_weights_are_the_same_once_they_are_loaded() -> None:
    images = torch.rand(2, 3, 32, 32)
    for name in ("shufflenet_v2_x0_5", "swin_t"):
        drawn = Backbone(name, 32, seed=1).eval()
        state = torch.get_rng_state()
        empty = Backbone(name, 32, initialise=False).eval()
        assert torch.equal(torch.get_rng_state(), state)
        empty.load_state_dict(drawn.state_dict())
        assert torch.equal(empty(images), drawn(images))
