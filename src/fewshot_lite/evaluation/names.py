"""Names of models and baselines on the command line, without importing torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from fewshot_lite.core.config import HeadName
from fewshot_lite.core.errors import UsageError
from fewshot_lite.core.files import DEFAULT_BASE, check_there, models_folder

#: Methods that adapt without meta-training, with descriptions.
BASELINES = {
    "cosine": "class means by cosine",
    "euclidean": "class means by Euclidean distance",
    "mahalanobis": "the head of Simple CNAPs",
    "mahalanobis-root": "the same on square roots of the features",
    "ridge": "ridge regression",
    "logistic": "logistic regression",
    "knn": "nearest neighbours by cosine",
    "finetune-head": "gradient steps on a linear layer",
    "finetune-film": "gradient steps on a linear layer and on FiLM parameters",
    "finetune": "gradient steps on a linear layer and on all weights",
}

#: Baselines whose gradient steps go through the backbone, and which therefore take a pattern.
TAKE_PATTERNS = ("finetune-film", "finetune")

#: Heads on features that FiLM has adapted to the task, as `adapt --head` fits them.
FILM_HEADS: dict[str, HeadName] = {f"film-{name}": name for name in get_args(HeadName)}

#: A checkpoint refined by gradient steps from its one-pass solution, as by `adapt --refine on`.
REFINE = "refine"


@dataclass(frozen=True)
class ModelName:
    """One of the models to compare."""

    text: str
    """The name as typed on the command line and shown in tables."""
    baseline: str | None
    """A name in `BASELINES` or `FILM_HEADS`, or `REFINE`; None for a checkpoint as it is."""
    base: str
    """The checkpoint, or the baseline's backbone: `default`, a file or torchvision's name."""


def parse_models(texts: Sequence[str], baseline_backbone: str = DEFAULT_BASE) -> list[ModelName]:
    """Parse the names of models to compare.

    Args:
        texts: each `default`, a checkpoint, a baseline's name, or `NAME:BACKBONE`. A file named
            like a baseline must be written with a path separator or its ending.
        baseline_backbone: the backbone of baselines that name none.

    Raises:
        UsageError: an unknown name, a missing file, or a model named twice.
    """
    if not texts:
        raise UsageError(
            "No model to evaluate: folders at the end are the data. Before them, give "
            f"{DEFAULT_BASE}, a file, or {_known()}."
        )
    names = [_parse(text, baseline_backbone) for text in texts]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise UsageError(f"{name.text}: named twice. Name each model once.")
    return names


def check_pattern(pattern: str | None, names: Sequence[ModelName]) -> None:
    """Refuse a pattern that no model of a comparison takes, or with other digits than 0 and 1.

    Its length is checked with the network at hand: see `evaluation.finetuning.updated_by`.

    Raises:
        UsageError: either.
    """
    if pattern is None:
        return
    if not any(name.baseline in TAKE_PATTERNS for name in names):
        raise UsageError(
            f"--pattern {pattern}: for {' and '.join(TAKE_PATTERNS)}, and neither is compared; a "
            "meta-trained model has its own. Leave it out."
        )
    if not pattern or set(pattern) - {"0", "1", ","}:
        raise UsageError(f"--pattern {pattern}: must have a digit 0 or 1 for each layer.")


def _parse(text: str, baseline_backbone: str) -> ModelName:
    if not text:
        raise UsageError(f"A model's name is empty. Give {DEFAULT_BASE}, a file, or {_known()}.")
    name, colon, backbone = text.partition(":")
    if _is_method(name):
        if colon and not backbone:
            raise UsageError(
                f"{text}: no backbone after the colon. Give a checkpoint or a network's name."
            )
        return ModelName(text, name, _existing(backbone or baseline_backbone, text))
    if text == DEFAULT_BASE:
        _require_shipped(text)
    if os.path.isdir(text) and not is_known(text):
        raise UsageError(f"{text}: a folder, no model. Name the models first, then all data.")
    if is_known(text):
        return ModelName(text, None, text)
    if _is_written_as_a_path(text):
        check_there(Path(text))
        return ModelName(text, None, text)
    raise UsageError(
        f"{text}: no such model. Give {DEFAULT_BASE}, a file, or {_known()}; the latter also as "
        "NAME:BACKBONE with a file or the name of a network."
    )


def is_known(text: str) -> bool:
    """Return whether a word is a model's name, even if a file or folder has the same name."""
    return text in (DEFAULT_BASE, *_shipped()) or _is_method(text.partition(":")[0])


def _is_method(name: str) -> bool:
    return name in BASELINES or name in FILM_HEADS or name == REFINE


def _existing(backbone: str, text: str) -> str:
    if backbone == DEFAULT_BASE:
        _require_shipped(text)
    if _is_written_as_a_path(backbone):
        check_there(Path(backbone), text, f"there is no file {backbone}")
    return backbone


def _is_written_as_a_path(text: str) -> bool:
    separators = [os.sep, *([os.altsep] if os.altsep else [])]
    named = any(s in text for s in separators) or Path(text).suffix in (".safetensors", ".pth")
    return named or os.path.lexists(text)


def _require_shipped(text: str) -> None:
    if not _shipped():
        raise UsageError(
            f"{text}: the shipped model is not there (no checkpoint in {models_folder()}). Name a "
            "file in its place, for a baseline as NAME:FILE or with --baseline-backbone."
        )


def _shipped() -> list[str]:
    return [path.stem for path in models_folder().glob("*.safetensors")]


def _known() -> str:
    return ", ".join(BASELINES)
