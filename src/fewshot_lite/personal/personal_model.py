"""The personal model: a plain network, the features of its photos and class names, in one file.

FiLM is folded into the network's norm layers. The file keeps the features and labels of the support
set, N·d numbers, and the head is fitted to them at load; its matrices would be d·d a class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewshot_lite.core import checkpoint
from fewshot_lite.core.devices import pick_device
from fewshot_lite.core.errors import InputError, damage_as
from fewshot_lite.core.files import DEFAULT_PERSONAL, as_path
from fewshot_lite.heads.array_head import ArrayHead, DescribedHead
from fewshot_lite.heads.base import Head
from fewshot_lite.heads.calibrated import as_array_head
from fewshot_lite.heads.in_numpy import Array, as_array, check_head_tensors, state_of
from fewshot_lite.heads.registry import make_head
from fewshot_lite.networks.backbone import Backbone, describe_backbone, described_backbone
from fewshot_lite.networks.inference import compiled
from fewshot_lite.networks.micro_batches import Passes
from fewshot_lite.personal.classifier import Answers
from fewshot_lite.personal.file_contents import Contents, check_contents, check_there
from fewshot_lite.personal.novelty import NoveltyDetector
from fewshot_lite.personal.views import Pixels
from fewshot_lite.personal.with_photos import WithPhotos


@dataclass(frozen=True)
class ModelOutputs:
    """The answers of a personal model, as tensors."""

    probabilities: Tensor
    """float32 (B, K), among the classes."""
    strangeness: Tensor
    """Novelty scores, float32 (B,); above `PersonalModel.threshold(reject)` a photo is unknown."""


class PersonalModel(WithPhotos):
    """A classifier of a person's own classes, run by torch."""

    def __init__(self, backbone: Backbone, head: Head, contents: Contents) -> None:
        """Assemble from parts; use `MetaModel.adapt` or `PersonalModel.load`.

        Args:
            backbone: the adapted network.
            head: the head, on the network's device; it is fitted to the features.
            contents: the photos.
        """
        super().__init__(contents)
        self.backbone = backbone.eval().requires_grad_(False)
        self._engine: Callable[[Tensor], Tensor] | None = None
        self.head = head.requires_grad_(False)
        self._statistics = self.head.fit(*self.rows()[:2], len(contents.class_names))

    @classmethod
    def load(cls, path: str | Path = DEFAULT_PERSONAL, *, device: str = "cpu") -> PersonalModel:
        """Read a personal model.

        Raises:
            UsageError: no such file, a file of another kind, or no such device.
            FewshotError: a damaged file.
        """
        path, where = as_path(path, "path"), pick_device(device)
        check_there(path)
        file = checkpoint.load(path, "personal", flag="--model")
        meta, tensors = file.meta, file.tensors
        with damage_as(f"--model {path}: damaged"):
            networks = {name: v for name, v in tensors.items() if name.startswith("network.")}
            backbone = checkpoint.build(lambda: described_backbone(meta), networks)
            head_state = checkpoint.under("head.", tensors)
            head = checkpoint.build(lambda: make_head(meta["head"]), head_state)
            check_head_tensors(state_of(head))
            support = {k: v.numpy() for k, v in tensors.items() if k.startswith("support.")}
            contents = check_contents(meta, support, backbone.feature_dim)
            return cls(backbone.to(where), head.to(where), contents)

    def _stored(self) -> tuple[Mapping[str, Any], Mapping[str, Array], DescribedHead]:
        description = describe_backbone(self.backbone, self.image_size)
        head = DescribedHead(self.head.describe(), state_of(self.head))
        return description, state_of(self.backbone.network), head

    def _tensor(self, values: Array) -> Tensor:
        return torch.from_numpy(values).to(self.backbone.mean.device)

    @cached_property
    def views(self) -> Tensor:
        """(N, V, d): features of each view of a photo; see `personal.views`."""
        return self._tensor(self.contents.features)

    @property
    def features(self) -> Tensor:
        """Features (N, d) of the photos as they are."""
        return self.views[:, 0]

    @cached_property
    def labels(self) -> Tensor:
        """int64 (N,) of 0..K-1."""
        return self._tensor(self.contents.labels)

    @property
    def groups(self) -> Tensor:
        """int64 (N,), equal for frames of one clip, which are left out together."""
        return self._tensor(self.contents.together)

    def rows(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the rows that the head is fitted to; see `Contents.rows`."""
        features, labels, photos = map(self._tensor, self.contents.rows())
        return features, labels, photos

    @cached_property
    def novelty(self) -> NoveltyDetector:
        """The novelty detector, fitted at the first access."""
        return NoveltyDetector(self.features, self.labels, len(self.class_names))

    @cached_property
    def array_head(self) -> ArrayHead:
        return as_array_head(self.head)

    @torch.no_grad()
    def leave_one_out_logits(self) -> Tensor:
        """Return `WithPhotos.leave_one_out_logits` in the features' dtype, on their device."""
        return torch.from_numpy(super().leave_one_out_logits()).to(self.views)

    @property
    def network_name(self) -> str:
        return self.backbone.name

    def features_of(self, pixels: Pixels) -> Array:
        return as_array(self.embed(torch.from_numpy(pixels)))

    def answers_of(self, pixels: Pixels) -> Answers:
        outputs = self.outputs(torch.from_numpy(pixels))
        return outputs.probabilities.cpu().numpy(), outputs.strangeness.cpu().numpy()

    @torch.no_grad()
    def embed(self, images: Tensor, *, micro_batch: int = 64) -> Tensor:
        """Return the features (B, d) of images as `outputs` takes them."""
        self._check_images(images)
        if self._engine is not None and images.dtype == torch.uint8:
            return Passes(micro_batch).map(self._engine, images)
        return Passes(micro_batch).map(self.backbone, images.to(self.features.device))

    def _check_images(self, images: object) -> None:
        """Raise InputError unless an argument is a tensor of images as `outputs` takes them."""
        side = self.image_size
        if not isinstance(images, Tensor):
            problem = type(images).__name__
        elif images.ndim != 4 or images.shape[1:] != (3, side, side):
            problem = f"a tensor of shape {tuple(images.shape)}"
        elif images.dtype != torch.uint8 and not images.is_floating_point():
            problem = f"a tensor of {images.dtype}"
        else:
            return
        raise InputError(
            f"images: {problem}. Give a tensor (B, 3, {side}, {side}) of uint8, or of floats in "
            "[0, 1]; for photos, use `classify`."
        )

    def accelerate(self, like: PersonalModel | None = None) -> PersonalModel:
        """Run the network by onnxruntime from now on, if that can, in a third of the time.

        Args:
            like: an accelerated model, whose session is shared if its network is the same.

        Returns:
            The model itself.
        """
        if like is not None and like.backbone is self.backbone:
            self._engine = like._engine
        else:
            self._engine = compiled(self.backbone, self.image_size)
        return self

    @torch.no_grad()
    def outputs(self, images: Tensor, *, micro_batch: int = 64) -> ModelOutputs:
        """Return class probabilities and novelty scores.

        Args:
            images: (B, 3, S, S), uint8 or float in [0, 1], S = `image_size`.
            micro_batch: images that go through the network at a time.

        Raises:
            InputError: no tensor, or one of another shape or type.
        """
        return self.outputs_of(self.embed(images, micro_batch=micro_batch))

    def outputs_of(self, features: Tensor) -> ModelOutputs:
        """Return the outputs for images with features (B, d)."""
        logits = self.head.logits(self._statistics, features)
        return ModelOutputs(logits.softmax(dim=1).float(), self.novelty.strangeness(features))

    @torch.no_grad()
    def probabilities(self, images: Tensor, *, micro_batch: int = 64) -> Tensor:
        """Return class probabilities alone, float32 (B, K), for images as `outputs` takes them."""
        features = self.embed(images, micro_batch=micro_batch)
        return self.head.logits(self._statistics, features).softmax(dim=1).float()
