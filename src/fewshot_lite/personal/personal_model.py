"""The personal model: a plain network, the features of its photos and class names, in one file.

FiLM lies folded in the network's norm layers. Of the support set the file keeps the features and
labels, from which the head is fitted anew at load: N·d numbers; matrices would be d·d a class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fewshot_lite.core import checkpoint
from fewshot_lite.core.errors import damage_as
from fewshot_lite.core.files import DEFAULT_PERSONAL
from fewshot_lite.heads.array_head import ArrayHead, DescribedHead
from fewshot_lite.heads.base import Head
from fewshot_lite.heads.calibrated import as_array_head
from fewshot_lite.heads.in_numpy import Array, as_array, check_head_tensors, state_of
from fewshot_lite.heads.registry import make_head
from fewshot_lite.networks.backbone import Backbone, describe_backbone, described_backbone
from fewshot_lite.networks.inference import compiled
from fewshot_lite.networks.micro_batches import Passes
from fewshot_lite.personal.file_contents import Contents, check_contents, check_there
from fewshot_lite.personal.novelty import NoveltyDetector
from fewshot_lite.personal.with_photos import WithPhotos


@dataclass(frozen=True)
class ModelOutputs:
    """The answers of a personal model, as tensors."""

    probabilities: Tensor
    """float32 (B, K), among the classes."""
    strangeness: Tensor
    """float32 (B,): above `PersonalModel.threshold(reject)`, none of the classes."""


class PersonalModel(WithPhotos):
    """A classifier of a person's own classes, run by torch."""

    def __init__(self, backbone: Backbone, head: Head, contents: Contents) -> None:
        """Put together; use `MetaModel.adapt` or `PersonalModel.load`.

        Args:
            backbone: the adapted network.
            head: to be fitted to the features; lies where the network does.
            contents: what is known of the photos.
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
            UsageError: no such file, or a file of another kind.
            FewshotError: a damaged file.
        """
        path = Path(path)
        check_there(path)
        file = checkpoint.load(path, "personal", flag="--model")
        meta, tensors = file.meta, file.tensors
        with damage_as(f"--model {path}: damaged"):
            networks = {name: v for name, v in tensors.items() if name.startswith("network.")}
            backbone = checkpoint.build(lambda: described_backbone(meta), networks)
            own = checkpoint.under("head.", tensors)
            head = checkpoint.build(lambda: make_head(meta["head"]), own)
            check_head_tensors(state_of(head))
            support = {k: v.numpy() for k, v in tensors.items() if k.startswith("support.")}
            contents = check_contents(meta, support, backbone.feature_dim)
            return cls(backbone.to(device), head.to(device), contents)

    def _stored(self) -> tuple[Mapping[str, Any], Mapping[str, Array], DescribedHead]:
        about = describe_backbone(self.backbone, self.image_size)
        head = DescribedHead(self.head.describe(), state_of(self.head))
        return about, state_of(self.backbone.network), head

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
        """int64 (N,), one number for the frames of a clip, which are left out together."""
        return self._tensor(self.contents.together)

    def rows(self) -> tuple[Tensor, Tensor, Tensor]:
        """The rows that the head is fitted to: features (N V, d), labels and photos (N V,)."""
        features, labels, photos = map(self._tensor, self.contents.rows())
        return features, labels, photos

    @cached_property
    def novelty(self) -> NoveltyDetector:
        """Tells photos of none of the classes; made when it is first asked for."""
        return NoveltyDetector(self.features, self.labels, len(self.class_names))

    @cached_property
    def array_head(self) -> ArrayHead:
        return as_array_head(self.head)

    @torch.no_grad()
    def leave_one_out_logits(self) -> Tensor:
        """As `WithPhotos.leave_one_out_logits`, in the features' type."""
        return torch.from_numpy(super().leave_one_out_logits()).to(self.views)

    @property
    def network_name(self) -> str:
        return self.backbone.name

    def features_of(self, pixels: npt.NDArray[np.uint8]) -> Array:
        return as_array(self.embed(torch.from_numpy(pixels)))

    def answers_of(
        self, pixels: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        outputs = self.outputs(torch.from_numpy(pixels))
        return outputs.probabilities.cpu().numpy(), outputs.strangeness.cpu().numpy()

    @torch.no_grad()
    def embed(self, images: Tensor, *, micro_batch: int = 64) -> Tensor:
        """Features (B, d) of images as `outputs` takes them."""
        if self._engine is not None and images.dtype == torch.uint8:
            return Passes(micro_batch).map(self._engine, images)
        return Passes(micro_batch).map(self.backbone, images.to(self.features.device))

    def accelerate(self, like: PersonalModel | None = None) -> PersonalModel:
        """Run the network by onnxruntime from now on, where that can: in a third of the time.

        Args:
            like: an accelerated model; what runs it is taken over if the network is the same.

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
        """Class probabilities and strangeness.

        Args:
            images: (B, 3, S, S), uint8 or float in [0, 1], S = `image_size`.
            micro_batch: images that go through the network at a time.
        """
        return self.outputs_of(self.embed(images, micro_batch=micro_batch))

    def outputs_of(self, features: Tensor) -> ModelOutputs:
        """As `outputs`, from features (B, d) of the images."""
        logits = self.head.logits(self._statistics, features)
        return ModelOutputs(logits.softmax(dim=1).float(), self.novelty.strangeness(features))

    @torch.no_grad()
    def probabilities(self, images: Tensor, *, micro_batch: int = 64) -> Tensor:
        """Class probabilities alone, float32 (B, K), of images as `outputs` takes."""
        features = self.embed(images, micro_batch=micro_batch)
        return self.head.logits(self._statistics, features).softmax(dim=1).float()
