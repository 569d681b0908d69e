"""The personal model: a plain network, the features of its photos and class names, in one file.

FiLM lies folded in the network's norm layers. Of the support set the file keeps the features and
labels, from which the head is fitted anew at load: N·d numbers; matrices would be d·d a class.
"""

from __future__ import annotations

from collections.abc import Callable
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
from fewshot_lite.core.files import DEFAULT_PERSONAL, check_output
from fewshot_lite.heads.array_head import ArrayHead
from fewshot_lite.heads.base import Head
from fewshot_lite.heads.calibrated import as_array_head
from fewshot_lite.heads.groups import groups_per_class
from fewshot_lite.heads.in_numpy import as_array
from fewshot_lite.networks.backbone import Backbone
from fewshot_lite.networks.inference import compiled
from fewshot_lite.networks.micro_batches import map_batches
from fewshot_lite.personal import model_file
from fewshot_lite.personal.adaptation import Adaptation as Adaptation
from fewshot_lite.personal.classifier import PhotoClassifier
from fewshot_lite.personal.file_contents import check_there
from fewshot_lite.personal.model_file import Parts
from fewshot_lite.personal.novelty import NoveltyDetector
from fewshot_lite.personal.undo import keep_backup


@dataclass(frozen=True)
class ModelOutputs:
    """The answers of a personal model, as tensors."""

    probabilities: Tensor
    """float32 (B, K), among the classes."""
    strangeness: Tensor
    """float32 (B,): above `PersonalModel.novelty.threshold(reject)`, none of the classes."""


class PersonalModel(PhotoClassifier):
    """A classifier of a person's own classes, run by torch."""

    #: How this model came about; None in one that was loaded from a file.
    adaptation: Adaptation | None = None

    def __init__(
        self,
        backbone: Backbone,
        head: Head,
        features: Tensor,
        labels: Tensor,
        class_names: tuple[str, ...],
        image_size: int,
        provenance: dict[str, Any],
        photos: tuple[str, ...] = (),
        support_strangeness: Tensor | None = None,
        thumbnails: tuple[bytes, ...] = (),
        leave_one_out_logits: Tensor | None = None,
        groups: Tensor | None = None,
        digests: Tensor | None = None,
    ) -> None:
        """Put together; use `MetaModel.adapt` or `PersonalModel.load`.

        Args:
            backbone: the adapted network.
            features: float32 (N, d) of the support images under it, or (N, V, d) of V views of
                each, the first as it is.
            labels: int64 (N,) of 0..K-1.
            class_names: K names.
            image_size: side of the images in pixels.
            provenance: JSON-able record of base, version and date.
            photos: N names of the support photos, relative to the folder they were in; empty if
                they are not known.
            support_strangeness: float32 (N,), how strange the support images are to one another
                (`NoveltyDetector.support_strangeness`), if that is known already.
            thumbnails: N small JPEGs of the support photos for reports (`images.thumbnails`), or
                none.
            leave_one_out_logits: float32 (N, K), of the support photos by models adapted without
                them (`cross_adaptation`).
            groups: int64 (N,), one number for the frames of one clip, which are left out together
                (`heads.groups`); None if each photo is alone.
            digests: int64 (N,), by which `classify` knows the support photos again
                (`images.decoding.digest_of`), if they are known.

        Raises:
            ValueError: an adapted head without `support_strangeness` and `leave_one_out_logits`,
                which its features cannot tell; or the latter alone.
        """
        adapted = leave_one_out_logits is not None
        if not (adapted or head.refits) or (adapted and support_strangeness is None):
            raise ValueError(
                "support.left_out_logits: needed by an adapted head, and go with support.left_out"
            )
        self.backbone = backbone.eval().requires_grad_(False)
        self._engine: Callable[[Tensor], Tensor] | None = None
        self.head = head.requires_grad_(False)
        self.views = features if features.ndim == 3 else features[:, None]
        """(N, V, d): of each view of a photo; see `personal.views`."""
        self.labels = labels
        self.class_names = class_names
        self.image_size = image_size
        self.provenance = provenance
        self.photos = photos
        self.thumbnails = thumbnails
        self.groups = torch.arange(len(labels), device=labels.device) if groups is None else groups
        self.digests = digests
        rows, of_rows, _ = self.rows()
        self._statistics = self.head.fit(rows, of_rows, len(class_names))
        self._support_strangeness = support_strangeness
        self._leave_one_out_logits = leave_one_out_logits

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
        with damage_as(f"--model {path}: damaged"):
            return cls(**vars(model_file.read(file, device)))

    def save(
        self,
        path: str | Path = DEFAULT_PERSONAL,
        *,
        force: bool = False,
        thumbnails: bool = True,
        backup: bool = True,
    ) -> Path:
        """Write the model, whole or not at all.

        Args:
            path: where to.
            force: it may be there.
            thumbnails: with the small pictures of its photos, if it has any.
            backup: keep the file that was there; see `personal.undo`.

        Raises:
            UsageError: the file exists and `force` is not set, or its folder is not there.
        """
        path = Path(path)
        check_output(path, force=force, stream=True)
        parts = Parts(
            self.backbone,
            self.head,
            self.views,
            self.labels,
            self.class_names,
            self.image_size,
            self.provenance,
            self.photos,
            self.novelty.support_strangeness,
            self.thumbnails if thumbnails else (),
            self._leave_one_out_logits,
            self.groups if self.clips else None,
            self.digests,
        )
        if force and backup:
            keep_backup(path)
        model_file.write(path, parts, force=force)
        return path

    @property
    def features(self) -> Tensor:
        """Features (N, d) of the photos as they are."""
        return self.views[:, 0]

    def rows(self) -> tuple[Tensor, Tensor, Tensor]:
        """The rows that the head is fitted to: features (N V, d), labels and photos (N V,)."""
        number, views = self.views.shape[:2]
        photos = torch.arange(number, device=self.labels.device)
        of_rows = self.labels.repeat_interleave(views)
        return self.views.flatten(0, 1), of_rows, photos.repeat_interleave(views)

    @cached_property
    def novelty(self) -> NoveltyDetector:
        """Tells photos of none of the classes; made when it is first asked for."""
        return NoveltyDetector(
            self.features,
            self.labels,
            len(self.class_names),
            self._support_strangeness,
            self.groups,
        )

    @property
    def clips(self) -> bool:
        """Whether some of the photos are frames of one clip."""
        return len(self.groups.unique()) < len(self.groups)

    @property
    def known_digests(self) -> frozenset[int]:
        return frozenset(() if self.digests is None else self.digests.tolist()) - {0}

    @property
    def examples(self) -> dict[str, int]:
        """The number of support photos and clips of each class, which are left out as one each."""
        given = as_array(self.labels), len(self.class_names), as_array(self.groups)
        return dict(zip(self.class_names, groups_per_class(*given).tolist(), strict=True))

    @property
    def shots(self) -> dict[str, int]:
        """The number of support photos of each class."""
        counts = torch.bincount(self.labels, minlength=len(self.class_names)).tolist()
        return dict(zip(self.class_names, counts, strict=True))

    @cached_property
    def array_head(self) -> ArrayHead:
        """The head as a function of NumPy's arrays."""
        return as_array_head(self.head)

    @property
    def adapted_by_gradient(self) -> bool:
        """Whether gradient steps on the photos made the network."""
        return self._leave_one_out_logits is not None

    @torch.no_grad()
    def leave_one_out_logits(self) -> Tensor:
        """Leave-one-out logits of the support photos, (N, K); NaN for a class's only photo or clip.

        Left out of the head alone (`Head.leave_one_out_logits`); where gradient steps adapted the
        network, of all of the adaptation, a fold at a time (`cross_adaptation`).
        """
        if self._leave_one_out_logits is not None:
            return self._leave_one_out_logits
        rows, labels, photos = self.rows()
        logits = self.head.leave_one_out_logits(
            rows, labels, len(self.class_names), self.groups[photos]
        )
        return logits[:: self.views.shape[1]]

    def threshold(self, reject: float) -> float:
        return self.novelty.threshold(reject)

    def answers_of(
        self, pixels: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        outputs = self.outputs(torch.from_numpy(pixels))
        return outputs.probabilities.cpu().numpy(), outputs.strangeness.cpu().numpy()

    @torch.no_grad()
    def embed(self, images: Tensor, *, micro_batch: int = 64) -> Tensor:
        """Features (B, d) of images as `outputs` takes them."""
        if self._engine is not None and images.dtype == torch.uint8:
            return map_batches(self._engine, images, micro_batch)
        return map_batches(self.backbone, images.to(self.features.device), micro_batch)

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
