"""A personal model's own file run by onnxruntime and NumPy; importing torch is not needed.

The network is written as an ONNX graph from the file's weights when it is opened, and the head and
the novelty threshold are fitted in NumPy to the file's features, as torch does at load. So
nothing is kept in the file for it, and files of before are run alike.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fewshot_lite.core import tensor_files
from fewshot_lite.core.errors import FewshotError
from fewshot_lite.heads.in_numpy import Array, Logits, fit_head, mahalanobis, scaled
from fewshot_lite.networks.lite_graph import lite_graph
from fewshot_lite.networks.lite_layout import HEAD, VARIANTS
from fewshot_lite.networks.sessions import open_session, run_session
from fewshot_lite.personal.classifier import PhotoClassifier
from fewshot_lite.personal.file_contents import Contents, check_contents, check_there
from fewshot_lite.personal.novelty_threshold import LENGTH, threshold


class TorchFreeModel(PhotoClassifier):
    """A classifier of a person's own classes: answers as `PersonalModel`, and starts sooner."""

    def __init__(
        self,
        session: Any,
        contents: Contents,
        logits: Logits,
        strangeness: Callable[[Array], Array],
    ) -> None:
        """Put together; use `TorchFreeModel.load`.

        Args:
            session: onnxruntime's, pixels (B, 3, S, S) to features (B, d).
            contents: of the file.
            logits: of features.
            strangeness: (B,), of features.
        """
        self._session = session
        self._contents = contents
        self._logits, self._strangeness = logits, strangeness
        self.class_names = contents.class_names
        self.image_size = contents.image_size
        self.provenance = contents.provenance

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
            with np.errstate(all="ignore"):
                return cls._of(meta, tensors) if meta.get("backbone") in VARIANTS else None
        except FewshotError:
            raise
        except Exception:  # whatever it is, torch has words for it
            return None

    @classmethod
    def _of(cls, meta: dict[str, Any], tensors: dict[str, Array]) -> TorchFreeModel | None:
        """Build a model of a file's contents, if they belong together; None without onnxruntime."""
        contents = check_contents(meta, _under("support.", tensors, keep=True), HEAD)
        adapted = meta["head"]["name"] == "adapted"
        if contents.support_strangeness is None or adapted != (
            contents.leave_one_out_logits is not None
        ):
            return None
        number, views, width = contents.features.shape
        classes = len(contents.class_names)
        rows = contents.features.reshape(number * views, width), contents.labels.repeat(views)
        logits = fit_head(meta["head"], _under("head.", tensors), (*rows, classes))
        graph = lite_graph(
            meta["backbone"],
            contents.image_size,
            meta["mean"],
            meta["std"],
            _under("network.", tensors),
        )
        return cls(open_session(graph), contents, logits, _strangeness(contents))

    def threshold(self, reject: float) -> float:
        assert self._contents.support_strangeness is not None
        return threshold(self._contents.support_strangeness.tolist(), reject)

    def answers_of(
        self, pixels: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        try:
            [features] = run_session(self._session, None, pixels)
        except Exception as error:  # onnxruntime's errors have no base of their own
            raise FewshotError(
                f"The network cannot be run ({error}). Run it with torch: --device cpu:0."
            ) from None
        with np.errstate(all="ignore"):  # what is not finite is told
            logits = self._logits(features)
            odds = np.exp(logits - logits.max(1, keepdims=True))
            probabilities = odds / odds.sum(1, keepdims=True)
            strangeness = self._strangeness(features)
        return probabilities.astype(np.float32), strangeness.astype(np.float32)


def _strangeness(contents: Contents) -> Callable[[Array], Array]:
    """What `NoveltyDetector.strangeness` is, in NumPy."""
    features = scaled(contents.features[:, 0], LENGTH)
    shots = np.bincount(contents.labels)
    distances = mahalanobis(features, contents.labels, len(shots), beta=1.0)
    weights = shots / (shots + 1) * (shots.max() + 1) / shots.max()

    def strangeness(features: Array) -> Array:
        nearest: Array = (weights * distances(scaled(features, LENGTH))).min(1)
        return nearest

    return strangeness


def _under(prefix: str, tensors: dict[str, Array], *, keep: bool = False) -> dict[str, Array]:
    """The tensors whose names begin with a prefix, by the rest of their names unless kept."""
    return {
        name if keep else name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
