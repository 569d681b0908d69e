"""A personal model's own file run by onnxruntime and NumPy; importing torch is not needed.

The network is written as an ONNX graph from the file's weights when it is opened, and the head and
the novelty threshold are fitted in NumPy to the file's features, as torch does at load. So
nothing is kept in the file for it, and files of before are run alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fewshot_lite.core import tensor_files
from fewshot_lite.core.errors import FewshotError
from fewshot_lite.heads.array_head import DescribedHead
from fewshot_lite.heads.in_numpy import Array, Logits, mahalanobis, scaled
from fewshot_lite.networks.lite_graph import lite_graph
from fewshot_lite.networks.lite_layout import HEAD, VARIANTS
from fewshot_lite.networks.sessions import open_session, run_session
from fewshot_lite.personal.file_contents import Contents, check_contents, check_there
from fewshot_lite.personal.novelty_threshold import LENGTH, class_weights
from fewshot_lite.personal.with_photos import WithPhotos

#: What `networks.backbone.describe_backbone` says of a network.
DESCRIPTION = ("backbone", "image_size", "mean", "std")
#: Photos that go through the network at a time where many are given.
_PHOTOS = 64


class TorchFreeModel(WithPhotos):
    """A classifier of a person's own classes: answers as `PersonalModel`, and starts sooner."""

    def __init__(
        self,
        backbone: Mapping[str, Any],
        network: dict[str, Array],
        head: DescribedHead,
        contents: Contents,
    ) -> None:
        """Put together; use `TorchFreeModel.load` or `TorchFreeBase.adapt`.

        Args:
            backbone: what `networks.backbone.describe_backbone` says of the network.
            network: its state.
            head: its head.
            contents: what is known of its photos.
        """
        super().__init__(contents)
        self._backbone, self._network, self._head = backbone, network, head

    @classmethod
    def load(cls, path: str | Path) -> TorchFreeModel | None:
        """Read a personal model.

        Returns:
            None if it takes torch to run it, or to say what is wrong with it.

        Raises:
            UsageError: no such file, or a file of another kind.
            FewshotError: a damaged file.
        """
        path = Path(path)
        check_there(path)
        try:
            tensors, meta = tensor_files.read(path, "personal", flag="--model", framework="np")
            support = {k: v for k, v in tensors.items() if k.startswith("support.")}
            contents = check_contents(meta, support, HEAD)
            if meta["backbone"] not in VARIANTS or contents.support_strangeness is None:
                return None
            network, own = (tensor_files.under(prefix, tensors) for prefix in ("network.", "head."))
            backbone = {name: meta[name] for name in DESCRIPTION}
            found = cls(backbone, network, DescribedHead(meta["head"], own), contents)
            with np.errstate(all="ignore"):
                _ = found._session, found._logits, found._strangeness  # what is wrong is told now
        except FewshotError:
            raise
        except Exception:  # whatever it is, torch has words for it
            return None
        return found

    def _stored(self) -> tuple[Mapping[str, Any], Mapping[str, Array], DescribedHead]:
        return self._backbone, self._network, self._head

    @property
    def array_head(self) -> DescribedHead:
        return self._head

    @cached_property
    def _session(self) -> Any:
        """onnxruntime's; made when it is first needed. Who adapts and saves needs none."""
        about = self._backbone
        given = about["backbone"], self.image_size, about["mean"], about["std"]
        return open_session(lite_graph(*given, self._network))

    @cached_property
    def _logits(self) -> Logits:
        """Of the fitted head."""
        rows, labels, _ = self.rows()
        return self._head.fit((rows, labels, len(self.class_names)))

    @cached_property
    def _strangeness(self) -> Callable[[Array], Array]:
        """`NoveltyDetector.strangeness` in NumPy."""
        labels, shots = self.labels, np.bincount(self.labels)
        distances = mahalanobis(scaled(self.features, LENGTH), labels, len(shots), beta=1.0)
        weights = class_weights(shots)
        return lambda features: (weights * distances(scaled(features, LENGTH))).min(1)

    @property
    def network_name(self) -> str:
        return str(self._backbone["backbone"])

    def features_of(self, pixels: npt.NDArray[np.uint8]) -> Array:
        parts = range(0, len(pixels), _PHOTOS)
        return np.concatenate([self._run(pixels[start : start + _PHOTOS]) for start in parts])

    def _run(self, pixels: npt.NDArray[np.uint8]) -> Array:
        """The network's features (B, d)."""
        try:
            [features] = run_session(self._session, None, pixels)
        except Exception as error:  # onnxruntime's errors have no base of their own
            raise FewshotError(
                f"The network cannot be run ({error}). Run it with torch: --device cpu:0."
            ) from None
        found: Array = features
        return found

    def answers_of(
        self, pixels: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        features = self._run(pixels)
        with np.errstate(all="ignore"):  # what is not finite is told
            logits = self._logits(features)
            odds = np.exp(logits - logits.max(1, keepdims=True))
            probabilities = odds / odds.sum(1, keepdims=True)
            strangeness = self._strangeness(features)
        return probabilities.astype(np.float32), strangeness.astype(np.float32)
