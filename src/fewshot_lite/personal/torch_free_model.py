"""A personal model's own file run by onnxruntime and NumPy; importing torch is not needed.

The network is written as an ONNX graph from the file's weights when it is opened, and the head and
the novelty threshold are fitted in NumPy to the file's features, as torch does at load. So
nothing is kept in the file for it, and files of before are run alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fewshot_lite.core import tensor_files
from fewshot_lite.core.errors import FewshotError
from fewshot_lite.core.files import DEFAULT_PERSONAL, check_output
from fewshot_lite.heads.array_head import DescribedHead
from fewshot_lite.heads.groups import groups_per_class
from fewshot_lite.heads.in_numpy import Array, Logits, mahalanobis, scaled
from fewshot_lite.networks.lite_graph import lite_graph
from fewshot_lite.networks.lite_layout import HEAD, VARIANTS
from fewshot_lite.networks.sessions import open_session, run_session
from fewshot_lite.personal.adaptation import Adaptation
from fewshot_lite.personal.classifier import PhotoClassifier
from fewshot_lite.personal.file_contents import Contents, check_contents, check_there
from fewshot_lite.personal.novelty_threshold import LENGTH, class_weights, threshold
from fewshot_lite.personal.undo import keep_backup
from fewshot_lite.personal.writing import write_personal


class TorchFreeModel(PhotoClassifier):
    """A classifier of a person's own classes: answers as `PersonalModel`, and starts sooner."""

    def __init__(self, graph: Callable[[], bytes], head: DescribedHead, contents: Contents) -> None:
        """Put together; use `TorchFreeModel.load`.

        Args:
            graph: makes the network, pixels (B, 3, S, S) to features (B, d).
            head: its head.
            contents: what is known of its photos.
        """
        self._graph = graph
        self.array_head = head
        self._contents = contents
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
        left_out = contents.leave_one_out_logits is not None
        if contents.support_strangeness is None or (adapted and not left_out):
            return None
        graph = lite_graph(
            meta["backbone"],
            contents.image_size,
            meta["mean"],
            meta["std"],
            _under("network.", tensors),
        )
        head = DescribedHead(meta["head"], _under("head.", tensors))
        found = cls(lambda: graph, head, contents)
        _ = found._session, found._logits, found._strangeness  # what is wrong is told now
        return found

    @cached_property
    def _session(self) -> Any:
        """onnxruntime's; made when it is first needed."""
        return open_session(self._graph())

    @cached_property
    def _logits(self) -> Logits:
        """Of the fitted head. Who adapts and saves needs none."""
        rows, labels, _ = self.rows()
        return self.array_head.fit((rows, labels, len(self.class_names)))

    @cached_property
    def _strangeness(self) -> Callable[[Array], Array]:
        return _strangeness(self._contents)

    @property
    def photos(self) -> tuple[str, ...]:
        """N names of the photos it was adapted to, or none."""
        return self._contents.photos

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """(N,), of 0..K-1."""
        return self._contents.labels

    @property
    def features(self) -> npt.NDArray[np.float32]:
        """Features (N, d) of the photos as they are."""
        return self._contents.features[:, 0]

    @property
    def shots(self) -> dict[str, int]:
        """The number of photos of each class."""
        counts = np.bincount(self.labels, minlength=len(self.class_names)).tolist()
        return dict(zip(self.class_names, counts, strict=True))

    @property
    def groups(self) -> npt.NDArray[np.int64]:
        """(N,), one number for the frames of a clip, which are left out together."""
        groups = self._contents.groups
        return np.arange(len(self.labels)) if groups is None else groups

    @property
    def examples(self) -> dict[str, int]:
        """The number of photos and clips of each class, which are left out as one each."""
        counts = groups_per_class(self.labels, len(self.class_names), self.groups).tolist()
        return dict(zip(self.class_names, counts, strict=True))

    @property
    def adapted_by_gradient(self) -> bool:
        """Whether gradient steps on the photos made the network and the head."""
        return self._contents.leave_one_out_logits is not None

    def rows(self) -> tuple[Array, Array, Array]:
        """The rows that the head is fitted to: features (N V, d), labels and photos (N V,)."""
        number, views, width = self._contents.features.shape
        rows = self._contents.features.reshape(number * views, width)
        return rows, self.labels.repeat(views), np.arange(number).repeat(views)

    def leave_one_out_logits(self) -> Array:
        """What the others make of each photo, (N, K); NaN for a class's only photo or clip."""
        if self._contents.leave_one_out_logits is not None:
            return self._contents.leave_one_out_logits
        rows, labels, photos = self.rows()
        support = rows, labels, len(self.class_names)
        found = self.array_head.leave_one_out_logits(support, self.groups[photos])
        return found[:: self._contents.features.shape[1]]

    def threshold(self, reject: float) -> float:
        assert self._contents.support_strangeness is not None
        groups = self._contents.groups
        support_strangeness = self._contents.support_strangeness.tolist()
        return threshold(support_strangeness, reject, None if groups is None else groups.tolist())

    @property
    def known_digests(self) -> frozenset[int]:
        digests = self._contents.digests
        return frozenset(() if digests is None else digests.tolist()) - {0}

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


class AdaptedModel(TorchFreeModel):
    """One that was adapted just now, and can be saved."""

    adaptation: Adaptation | None = None
    """How it came about."""

    def __init__(
        self,
        backbone: Mapping[str, Any],
        network: dict[str, Array],
        head: DescribedHead,
        contents: Contents,
    ) -> None:
        """Put together; use `TorchFreeBase.adapt`.

        Args:
            backbone: what `networks.backbone.describe_backbone` says of the network.
            network: its state.
            head: its head.
            contents: what is known of its photos.
        """
        given = backbone["backbone"], contents.image_size, backbone["mean"], backbone["std"]
        super().__init__(lambda: lite_graph(*given, network), head, contents)
        self._backbone, self._network = backbone, network

    def save(
        self,
        path: str | Path = DEFAULT_PERSONAL,
        *,
        force: bool = False,
        thumbnails: bool = True,
        backup: bool = True,
    ) -> Path:
        """Write the model, whole or not at all; see `PersonalModel.save`."""
        path = Path(path)
        check_output(path, force=force, stream=True)
        contents = self._contents if thumbnails else replace(self._contents, thumbnails=())
        if force and backup:
            keep_backup(path)
        write_personal(path, self._backbone, self._network, self.array_head, contents, force=force)
        return path


def _strangeness(contents: Contents) -> Callable[[Array], Array]:
    """`NoveltyDetector.strangeness` in NumPy."""
    features = scaled(contents.features[:, 0], LENGTH)
    shots = np.bincount(contents.labels)
    distances = mahalanobis(features, contents.labels, len(shots), beta=1.0)
    weights = class_weights(shots)

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
