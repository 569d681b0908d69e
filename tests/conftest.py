"""What holds for all tests."""

from __future__ import annotations

import pytest
import torch

# The tests' networks are tiny: more threads would only wait for each other.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
