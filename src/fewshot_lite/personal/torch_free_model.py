"""A personal model run by onnxruntime and NumPy, without importing torch.

When the file is opened, its network is converted to an ONNX graph, and the head and the novelty
detector are fitted to its features in NumPy. So the file needs nothing for it, and older files run
as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fewshot_lite.core import tensor_files
from fewshot_lite.core.errors import FewshotError
from fewshot_lite.core.files import as_path
from fewshot_lite.heads.array_head import DescribedHead
from fewshot_lite.heads.in_numpy import Array, Logits, mahalanobis, scaled
from fewshot_lite.networks.lite_graph import lite_graph
from fewshot_lite.networks.lite_layout import HEAD, VARIANTS
from fewshot_lite.networks.sessions import open_session, run_session
from fewshot_lite.personal.classifier import Answers
from fewshot_lite.personal.file_contents import Contents, check_contents, check_there
from fewshot_lite.personal.novelty_threshold import LENGTH, class_weights
from fewshot_lite.personal.views import Pixels
from fewshot_lite.personal.with_photos import WithPhotos

#: The keys of `networks.backbone.describe_backbone`.
DESCRIPTION = ("backbone", "image_size", "mean", "std")
#: Photos in a batch of `features_of`.
_BATCH = 64


class TorchFreeModel(WithPhotos):
    """A personal model that starts sooner than `PersonalModel`, and gives the same answers."""

    def __init__(
        self,
        backbone: Mapping[str, Any],
        network: dict[str, Array],
        head: DescribedHead,
        contents: Contents,
    ) -> None:
        """Assemble from parts; use `TorchFreeModel.load` or `TorchFreeBase.adapt`.

        Args:
            backbone: as `networks.backbone.describe_backbone` gives it.
            network: the network's state.
            head: the head.
            contents: the photos.
        """
        super().__init__(contents)
        self._backbone, self._network, self._head = backbone, network, head

    @classmethod
    def load(cls, path: str | Path) -> TorchFreeModel | None:
        """Read a personal model.

        Returns:
            The model; None if it takes torch to run it, or to say what is wrong with it.

        Raises:
            UsageError: no such file, or a file of another kind.
            FewshotError: a damaged file.
        """
        path = as_path(path, "path")
        check_there(path)
        try:
            tensors, meta = tensor_files.read(path, "personal", flag="--model", framework="np")
            support = {k: v for k, v in tensors.items() if k.startswith("support.")}
            contents = check_contents(meta, support, HEAD)
            if meta["backbone"] not in VARIANTS or contents.support_strangeness is None:
                return None
            network = tensor_files.under("network.", tensors)
            head = DescribedHead(meta["head"], tensor_files.under("head.", tensors))
            model = cls({name: meta[name] for name in DESCRIPTION}, network, head, contents)
            with np.errstate(all="ignore"):
                _ = model._session, model._logits, model._novelty  # fail now rather than later
        except FewshotError:
            raise
        except Exception:  # loading it by torch names the fault
            return None
        return model

    def _stored(self) -> tuple[Mapping[str, Any], Mapping[str, Array], DescribedHead]:
        return self._backbone, self._network, self._head

    @property
    def array_head(self) -> DescribedHead:
        return self._head

    @cached_property
    def _session(self) -> Any:
        """onnxruntime's session, made at the first access: adapting and saving need none."""
        name, mean, std = (self._backbone[key] for key in ("backbone", "mean", "std"))
        return open_session(lite_graph(name, self.image_size, mean, std, self._network))

    @cached_property
    def _logits(self) -> Logits:
        """The fitted head."""
        rows, labels, _ = self.contents.rows()
        return self._head.fit((rows, labels, len(self.class_names)))

    @cached_property
    def _novelty(self) -> Callable[[Array], Array]:
        """`NoveltyDetector.strangeness` in NumPy."""
        labels, shots = self.labels, np.bincount(self.labels)
        distances = mahalanobis(scaled(self.features, LENGTH), labels, len(shots), beta=1.0)
        weights = class_weights(shots)
        return lambda features: (weights * distances(scaled(features, LENGTH))).min(1)

    @property
    def network_name(self) -> str:
        return str(self._backbone["backbone"])

    def features_of(self, pixels: Pixels) -> Array:
        starts = range(0, len(pixels), _BATCH)
        return np.concatenate([self._run(pixels[start : start + _BATCH]) for start in starts])

    def _run(self, pixels: Pixels) -> Array:
        """Run the network on a batch; return features (B, d)."""
        features: Array
        try:
            [features] = run_session(self._session, None, pixels)
        except Exception as error:  # onnxruntime's errors have no base of their own
            raise FewshotError(
                f"The network cannot be run ({error}). Run it with torch: --device cpu:0."
            ) from None
        return features

    def answers_of(self, pixels: Pixels) -> Answers:
        features = self._run(pixels)
        with np.errstate(all="ignore"):  # `classify` reports values that are not finite
            logits = self._logits(features)
            odds = np.exp(logits - logits.max(1, keepdims=True))
            probabilities = odds / odds.sum(1, keepdims=True)
            scores = self._novelty(features)
        return probabilities.astype(np.float32), scores.astype(np.float32)
