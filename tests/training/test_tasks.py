"""Training tasks: what is kept in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewshot_lite.images.folders import scan_classes
from fewshot_lite.training.tasks import TrainingTasks
from photos import QUICK, SIZE, classes, draw_classes


@pytest.mark.parametrize(("ranks", "kept"), [(1, True), (2, False)])
def test_the_ranks_of_a_machine_share_its_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ranks: int, kept: bool
) -> None:
    """All images fit, by a byte, if one process is there to keep them."""
    data = scan_classes(draw_classes(tmp_path, classes(4, photos=3)))
    monkeypatch.setattr("fewshot_lite.training.tasks._MEMORY", len(data.paths) * 3 * SIZE * SIZE)
    launcher = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
    for name, value in {**launcher, "MASTER_ADDR": "localhost", "MASTER_PORT": 29500}.items():
        monkeypatch.setenv(name, str(value))
    assert TrainingTasks([data], QUICK, SIZE, None).kept == kept
