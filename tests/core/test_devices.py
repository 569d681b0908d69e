"""Which device, and how many images at once."""

from __future__ import annotations

import pytest
import torch

from fewshot_lite.core.devices import pick_device, pick_micro_batch
from fewshot_lite.core.errors import UsageError


def test_micro_batches_on_a_cpu_shrink_with_the_images() -> None:
    cpu = torch.device("cpu")
    assert [pick_micro_batch(cpu, size) for size in (64, 96, 224, 448, 1024)] == [64, 64, 16, 4, 1]


def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(UsageError, match="--device cuda:99: not available"):
        pick_device("cuda:99")
