"""Loading of the models of a comparison, each checkpoint and each backbone once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fewshot_lite.core import checkpoint
from fewshot_lite.core.config import Precision
from fewshot_lite.core.devices import pick_device
from fewshot_lite.core.errors import TAKE_ANOTHER, FewshotError, UsageError, first_line
from fewshot_lite.core.files import DEFAULT_BASE, find_base
from fewshot_lite.core.ranks import device_name
from fewshot_lite.evaluation.finetuning import FineTuning, updated_by
from fewshot_lite.evaluation.methods import (
    FilmHeadMethod,
    FineTunedFilm,
    FineTunedHead,
    FineTunedWeights,
    HeadMethod,
    LearnerMethod,
    Method,
    RefinedMethod,
)
from fewshot_lite.evaluation.names import FILM_HEADS, REFINE, TAKE_PATTERNS, ModelName
from fewshot_lite.heads.registry import NAMED_HEADS
from fewshot_lite.networks.backbone import Backbone, cast_for
from fewshot_lite.networks.micro_batches import Passes
from fewshot_lite.networks.names import NETWORKS
from fewshot_lite.networks.weights import load_backbone
from fewshot_lite.personal.meta_model import MetaModel


@dataclass(frozen=True)
class Session:
    """The settings with which the networks of a comparison are run."""

    device: str = "auto"
    precision: Precision = "auto"
    image_size: int | None = None
    """Side of the images in pixels, in place of the models' own."""
    micro_batch: int = 64
    """Images in a pass; does not change accuracies."""
    fine_tuning: FineTuning = FineTuning()  # noqa: RUF009 (frozen)


@dataclass(frozen=True)
class Opened:
    """A model ready to run."""

    method: Method
    description: dict[str, Any]
    """Backbone, weights, image size and parameters, JSON-able."""
    trained_on: Mapping[str, Sequence[str]]
    """Names of training classes by data set, as far as its checkpoint records them."""


def open_models(names: Sequence[ModelName], session: Session) -> list[Opened]:
    """Load the models of a comparison.

    Raises:
        UsageError: a file of another kind, an unknown network, an image size it cannot take.
        FewshotError: a damaged file, or weights that cannot be loaded.
    """
    opener = _Opener(session)
    return [opener.open(name) for name in names]


class _Opener:
    def __init__(self, session: Session) -> None:
        self._settings = session
        self._device = pick_device(device_name(session.device))
        self._models: dict[Path, MetaModel] = {}
        self._backbones: dict[str, tuple[Backbone, int, dict[str, Any]]] = {}

    def open(self, name: ModelName) -> Opened:
        if name.baseline is None or name.baseline in (REFINE, *FILM_HEADS):
            model = self._model(_checkpoint(name), name.text)
            size = self._size(model.image_size)
            learner, passes = model.learner, self._passes(model.learner.backbone)
            method: Method
            if name.baseline in FILM_HEADS:
                head = FILM_HEADS[name.baseline]
                method = FilmHeadMethod(name.text, learner, head, size, passes)
            elif name.baseline == REFINE:
                method = RefinedMethod(name.text, learner, size, passes, model.refinement())
            else:
                method = LearnerMethod(name.text, learner, size, passes)
            origin = {"learner": learner.name, **model.source}
        else:
            backbone, size, origin = self._backbone(name.base, name.text)
            method = self._baseline(name.text, name.baseline, backbone, size)
        _check_size(method)
        pattern = self._settings.fine_tuning.pattern
        description = {
            "name": name.text,
            "baseline": name.baseline,
            "backbone": method.backbone.name,
            "image_size": size,
            "parameters": method.parameters,
            **({"pattern": pattern} if pattern and name.baseline in TAKE_PATTERNS else {}),
            **{key: value for key, value in origin.items() if key != "name"},
        }
        return Opened(method, description, self._trained_on(name.base))

    def _trained_on(self, base: str) -> Mapping[str, Sequence[str]]:
        """Return the classes that a checkpoint and its backbone were trained on."""
        path = Path(base) if Path(base).is_file() else _shipped(base, base)
        if path is None or path.suffix != ".safetensors":
            return {}
        meta = checkpoint.read_any(path, tensors=False)[1] or {}
        seen: dict[str, list[str]] = {}
        try:
            record = meta.get("record") or {}
            pretraining = record.get("pretraining") or {}
            for by_set in (record.get("data"), pretraining.get("classes"), meta.get("classes")):
                for name, classes in (by_set or {}).items():
                    seen.setdefault(name, []).extend(map(str, classes))
        except (AttributeError, TypeError):
            raise FewshotError(f"{path}: its description is damaged. {TAKE_ANOTHER}") from None
        return seen

    def _model(self, path: Path, text: str) -> MetaModel:
        if path not in self._models:
            kind = checkpoint.read_meta(path)["kind"]
            if kind == "personal":
                raise UsageError(
                    f"{text}: a personal model, whose classes are fixed; it cannot adapt to other "
                    "tasks. Give the base model that it was made from."
                )
            if kind != "meta":
                raise UsageError(
                    f"{text}: {checkpoint.describe(kind)}, which does not adapt by itself. "
                    f"Give a baseline on it, e.g. cosine:{text}"
                )
            self._models[path] = MetaModel.load(path, device=str(self._device))
        return self._models[path]

    def _backbone(self, base: str, text: str) -> tuple[Backbone, int, dict[str, Any]]:
        """Return the backbone of a checkpoint, a pre-trained one, or torchvision's by its name."""
        if base not in self._backbones:
            path = Path(base) if Path(base).is_file() else _shipped(base, text)
            if path is not None and self._is_meta(path):
                model = self._model(path, text)
                backbone, size = model.learner.backbone, self._size(model.image_size)
                record: dict[str, Any] = dict(model.source)
            else:
                name = base if path is None else _architecture(path)
                backbone, record = _load(text, name, path, self._settings.image_size)
                size = self._size(backbone.image_size)
                if path is not None:
                    record = {key: record[key] for key in ("weights", "sha256")}
            backbone.to(self._device).requires_grad_(False)
            self._backbones[base] = (backbone, size, record)
        return self._backbones[base]

    @staticmethod
    def _is_meta(path: Path) -> bool:
        if path.suffix != ".safetensors":
            return False
        _, meta = checkpoint.read_any(path, tensors=False)
        return meta is not None and meta["kind"] == "meta"

    def _baseline(self, text: str, baseline: str, backbone: Backbone, size: int) -> Method:
        passes = self._passes(backbone)
        tuning = self._settings.fine_tuning
        if baseline == "finetune-head":
            return FineTunedHead(text, tuning, backbone, size, passes)
        if baseline in TAKE_PATTERNS:
            _check_pattern(text, tuning.pattern, backbone)
            kind = FineTunedFilm if baseline == "finetune-film" else FineTunedWeights
            return kind(text, tuning, backbone, size, passes)
        return HeadMethod(text, NAMED_HEADS[baseline]().to(self._device), backbone, size, passes)

    def _passes(self, backbone: Backbone) -> Passes:
        settings = self._settings
        return Passes(settings.micro_batch, cast_for(backbone, self._device, settings.precision))

    def _size(self, default: int) -> int:
        return self._settings.image_size or default


def _checkpoint(name: ModelName) -> Path:
    """Return the file of a meta-trained model."""
    try:
        return find_base(name.base)
    except UsageError:
        raise UsageError(
            f"{name.text}: there is no checkpoint {name.base}. Give {DEFAULT_BASE} or a FILE after "
            "the colon."
        ) from None


def _check_pattern(text: str, pattern: str | None, backbone: Backbone) -> None:
    """Refuse a pattern that does not fit the model, naming the model."""
    try:
        updated_by(pattern, backbone)
    except UsageError as error:
        raise UsageError(f"{text}: {error}") from None


def _check_size(method: Method) -> None:
    """Refuse an image size that the network cannot take, by trying one image."""
    size = method.image_size
    image = torch.zeros(1, 3, size, size, dtype=torch.uint8, device=method.device)
    try:
        method.bare(image)
    except (AssertionError, RuntimeError, ValueError) as error:
        raise UsageError(
            f"{method.name}: {method.backbone.name} cannot take images of {size} px "
            f"({first_line(error)}). Give another --image-size."
        ) from None


def _shipped(base: str, text: str) -> Path | None:
    """Return the file of a shipped model; None for torchvision's names."""
    if os.path.isdir(base) and base not in NETWORKS:
        raise UsageError(f"{text}: {base} is a folder. Give a checkpoint, or a network's name.")
    try:
        path = find_base(base)
    except UsageError:
        return None
    return path if path.is_file() else None


def _architecture(path: Path) -> str | None:
    """Return the network that torchvision's name of a file begins with: resnet18-f37072fd.pth."""
    if path.suffix == ".safetensors":
        return None  # named by its description, or else a resnet18
    names = [name for name in NETWORKS if path.name.startswith((f"{name}-", f"{name}_"))]
    return max(names, key=len, default=None)


def _load(
    text: str, name: str | None, path: Path | None, image_size: int | None
) -> tuple[Backbone, dict[str, Any]]:
    """Call `load_backbone`, whose messages name flags of training, and adapt its messages."""
    try:
        return load_backbone(name, str(path) if path else "default", image_size)
    except FewshotError as error:
        message = str(error).replace("--weights ", "", 1)
        if path is None and " Without a network " in message:
            message = message.partition(" Without a network ")[0] + (
                " Without a network give NAME:FILE, with a checkpoint of fewshot-lite or a copy of "
                "torchvision's file under its own name."
            )
        raise type(error)(f"{text}: {message}") from None
