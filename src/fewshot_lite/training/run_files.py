"""Where a training run keeps what it writes beside its output; this does not import torch."""

from __future__ import annotations

from pathlib import Path


def log_path(output: Path) -> Path:
    """Where a run that writes `output` keeps its log, one JSON object a line."""
    return output.with_name(output.name.removesuffix(".safetensors") + ".jsonl")


def state_path(output: Path) -> Path:
    """Where a run that writes `output` keeps what it needs to resume."""
    return output.with_name(output.name.removesuffix(".safetensors") + ".state.safetensors")


def previous(state: Path) -> Path:
    """Where the state before the newest one is kept."""
    return state.with_name(state.name.removesuffix(".safetensors") + ".previous.safetensors")
