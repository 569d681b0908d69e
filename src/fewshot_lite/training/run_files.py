"""Paths of the files that a training run writes beside its output; this does not import torch."""

from __future__ import annotations

from pathlib import Path


def log_path(output: Path) -> Path:
    """Return the path of a run's log, which has one JSON object per line."""
    return output.with_name(output.name.removesuffix(".safetensors") + ".jsonl")


def state_path(output: Path) -> Path:
    """Return the path of a run's state, to resume from."""
    return output.with_name(output.name.removesuffix(".safetensors") + ".state.safetensors")


def previous(state: Path) -> Path:
    """Return the path of the state before the newest one."""
    return state.with_name(state.name.removesuffix(".safetensors") + ".previous.safetensors")
