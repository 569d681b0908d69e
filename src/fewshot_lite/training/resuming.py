"""Going on with a run on all of its ranks, of which the first alone has the files."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from fewshot_lite.core.ranks import Ranks
from fewshot_lite.training import run as training
from fewshot_lite.training.states import State


def resume_on_all(
    path: Path,
    output: Path,
    ranks: Ranks,
    modules: nn.Module,
    optimizer: Optimizer,
    settings: dict[str, Any],
) -> tuple[State | None, str]:
    """Load the state that the first rank has; what is wrong with it is raised on all.

    Returns:
        The state, None if the run was killed before it had one, and why it is not the newest.
    """

    def find() -> tuple[Path, str] | None:
        if not ranks.first or not training.check_resume(output):
            return None
        return training.find_state(path)

    found = ranks.together(find)
    reason = found[1] if found else ""
    content = b""
    if ranks.size > 1:
        content = ranks.from_first(found[0].read_bytes() if found else b"")
    if not found and not content:
        return None, ""

    def load() -> State:
        if found:
            return training.load_state(found[0], modules, optimizer, settings)
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / path.name
            copy.write_bytes(content)
            return training.load_state(copy, modules, optimizer, settings)

    return ranks.together(load), reason


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin so, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
