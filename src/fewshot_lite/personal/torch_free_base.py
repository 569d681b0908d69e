"""A base adapted by onnxruntime and NumPy, without importing torch.

From the same photos it makes the same personal model as `MetaModel.adapt`, up to rounding. It
adapts Simple CNAPs on EfficientNet-Lite with FiLM in upper stages, in one forward pass, with any
head that `adapt` knows; it takes no gradient steps.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any

import numpy as np
import numpy.typing as npt

from fewshot_lite.core import tensor_files
from fewshot_lite.core.config import HeadName, check_word, switches_checked
from fewshot_lite.core.errors import NOT_FINITE, FewshotError
from fewshot_lite.core.files import DEFAULT_BASE, sha256
from fewshot_lite.core.progress import OnDone
from fewshot_lite.heads.array_head import ArrayHead, DescribedHead
from fewshot_lite.heads.choosing import Chosen, choose
from fewshot_lite.heads.in_numpy import Array, as_array, check_head_tensors
from fewshot_lite.heads.in_numpy import Support as ArraySupport
from fewshot_lite.images.decoding import digest_of
from fewshot_lite.images.photo import Square
from fewshot_lite.images.thumbnails import thumbnail
from fewshot_lite.networks.film_numbers import embedded, generated, map_statistics
from fewshot_lite.networks.lite_graph import lite_graph
from fewshot_lite.networks.lite_layout import VARIANTS, block_shapes
from fewshot_lite.networks.sessions import open_session, run_session
from fewshot_lite.personal.base_argument import parse_base
from fewshot_lite.personal.novelty_threshold import novelty_of_support
from fewshot_lite.personal.support import (
    Labels,
    Photos,
    Reading,
    Support,
    contents_of,
    read_support,
)
from fewshot_lite.personal.torch_free_model import DESCRIPTION, TorchFreeModel
from fewshot_lite.personal.views import MIRRORED, choose_views, view, without_mirrored

#: Bytes of maps kept in memory; beyond that they are kept in a temporary file.
_IN_MEMORY = 16 * 2**20
#: Rows in a batch of the upper stages.
_BATCH = 64


class TorchFreeBase:
    """A meta-trained model in NumPy."""

    def __init__(
        self, meta: Mapping[str, Any], tensors: Mapping[str, Array], source: dict[str, str]
    ) -> None:
        """Assemble from the contents of a file; use `TorchFreeBase.load`.

        Args:
            meta: its description.
            tensors: its tensors.
            source: its name and hash.

        Raises:
            KeyError, TypeError, ValueError: a model that takes torch to adapt, or a damaged one.
        """
        hyperparameters = meta["hyperparameters"]
        stages, self._meta, self._source = hyperparameters["film_stages"], meta, source
        last = len(block_shapes(VARIANTS[meta["backbone"]])) + 2
        if meta["learner"] != "simple-cnaps" or not 1 <= stages < last:
            raise ValueError("it takes torch to adapt this")
        self.image_size = tensor_files.image_size(dict(meta))
        self._first = last - stages
        self._state = tensors
        self._network = tensor_files.under("backbone.network.", tensors)
        head = tensor_files.under("head.", tensors)
        check_head_tensors(head)
        root = hyperparameters["root"]
        self._head = DescribedHead(
            {"name": "mahalanobis", "root": root, "fixed_temperature": False}, head
        )
        if hyperparameters["fixed_temperature"] is not False:
            raise ValueError("it takes torch to adapt this head")
        # Build both graphs now, so that faults of the weights are found before photos are read.
        self._lower = open_session(self._graph_of(self._network, stop=self._first))
        with np.errstate(over="raise", invalid="raise", divide="raise"):
            z = embedded(np.zeros((1, len(tensors["set_encoder.centre"])), np.float32), tensors)
            self._graph_of(self._adapted(z[0]), start=self._first)

    @classmethod
    def load(cls, base: str | Path = DEFAULT_BASE) -> TorchFreeBase | None:
        """Read a meta-trained checkpoint.

        Args:
            base: as `MetaModel.load` takes it.

        Returns:
            The base; None if it takes torch to adapt it, or to say what is wrong with it.

        Raises:
            UsageError: no such file or name, or a file of another kind.
            FewshotError: a damaged file.
        """
        path = parse_base(base).checkpoint
        if path is None:
            return None
        try:
            meta, tensors = tensor_files.read(path, "meta", flag="--base", framework="np")[::-1]
            return cls(meta, tensors, {"name": path.stem, "sha256": sha256(path)})
        except FewshotError:
            raise
        except Exception:  # loading it by torch names the fault
            return None

    @switches_checked
    def adapt(
        self,
        photos: Photos,
        labels: Labels | None = None,
        *,
        head: HeadName = "default",
        views: int | None = None,
        mirror: bool | None = None,
        frames: int | None = None,
        strict: bool = False,
        thumbnails: bool = True,
        workers: int | None = None,
        on_done: OnDone | None = None,
        on_video: OnDone | None = None,
        on_embedded: OnDone | None = None,
    ) -> TorchFreeModel:
        """Adapt to a support set in one forward pass.

        Arguments and errors are those of `MetaModel.adapt`. The lower stages run while further
        photos are decoded; their maps are kept in a temporary file where there are many.
        """
        start = time.perf_counter()
        check_word("--head", head, HeadName)
        choose_views(views, mirror, 0)
        with _Rows(self._lower, views, mirror, thumbnails) as rows:
            reading = Reading(
                frames, strict, workers, on_done, on_video, take=rows.take, look=rows.look
            )
            support = read_support(photos, labels, self.image_size, reading)
            if not rows.names:  # tensors of squares, which `read_support` does not hand to `take`
                for batch in _batches(support.images):
                    rows.take(batch, len(support.labels))
                    for image in batch:
                        square = Square(image.transpose(1, 2, 0), *image.shape[1:])
                        rows.look(len(rows.digests), square)
            rows.finish()
            model = self._model(support, rows, head, mirror, on_embedded)
        model.adaptation = support.adapted_to(start)
        return model

    def _model(
        self,
        support: Support,
        rows: _Rows,
        head: HeadName,
        mirror: bool | None,
        on_embedded: OnDone | None,
    ) -> TorchFreeModel:
        labels, classes = np.array(support.labels, np.int64), len(support.class_names)
        network = self._adapted(embedded(rows.statistics, self._state).mean(0))
        upper = open_session(self._graph_of(network, start=self._first))
        names, number = rows.names, len(labels)
        features = np.empty((number * len(names), upper.get_outputs()[0].shape[1]), np.float32)
        done = 0
        for maps in rows.maps():
            [features[done : done + len(maps)]] = run_session(upper, None, maps)
            done += len(maps)
            if on_embedded is not None:
                on_embedded(done // len(names), number)
        del upper  # free its memory before heads are fitted
        if not np.isfinite(features).all():
            raise FewshotError(NOT_FINITE)
        groups = np.array(support.groups or range(number), np.int64)
        as_is = features[:: len(names)]
        with ThreadPoolExecutor(1) as beside:  # both leave each photo out, by other features
            novelty = beside.submit(novelty_of_support, as_is, labels, classes, groups)
            chosen, names, features = self._choose(
                head, (features, labels, classes), names, mirror, groups
            )
        assert isinstance(chosen.head, DescribedHead)
        record = {
            "base": self._source,
            "learner": self._meta["learner"],
            "head": chosen.record(),
            "views": list(names),
        }
        contents = contents_of(
            support,
            self.image_size,
            features.reshape(number, len(names), -1),
            record,
            thumbnails=tuple(jpeg for _, jpeg in sorted(rows.jpegs.items())),
            digests=[digest for _, digest in sorted(rows.digests.items())],
        )
        contents = replace(contents, support_strangeness=novelty.result())
        backbone = {name: self._meta[name] for name in DESCRIPTION}
        return TorchFreeModel(backbone, network, chosen.head, contents)

    def _choose(
        self,
        head: HeadName,
        photos: ArraySupport,
        names: tuple[str, ...],
        mirror: bool | None,
        groups: Array,
    ) -> tuple[Chosen[ArrayHead], tuple[str, ...], Array]:
        """Choose the head and the views; return them with the features (N V, d) of these views.

        Args:
            photos: features (N V, d), labels (N,) and K.
            names: the V views.
            groups: (N,), rows of one number are left out together.
        """
        features, labels, classes = photos
        together = groups.repeat(len(names))
        as_is = np.arange(len(together)) % len(names) == 0
        support = features, labels.repeat(len(names)), classes
        chosen = choose(head, self._head, support, together, as_is)
        if MIRRORED not in names or mirror is not None:
            return chosen, names, features
        kept = without_mirrored(chosen.head, support, together, names)
        if kept is None:
            return chosen, names, features
        names = tuple(name for name in names if name != MIRRORED)
        support = features[kept], support[1][kept], classes
        chosen = choose(head, self._head, support, together[kept], as_is[kept])
        return chosen, names, features[kept]

    def _adapted(self, z: Array) -> dict[str, Array]:
        """Return the state of the network with FiLM from a task embedding (Z,)."""
        film = {
            name.removeprefix("network."): value.astype(np.float32)
            for name, value in generated(z, self._state).items()
        }
        return {**self._network, **film}

    def graph(self) -> bytes:
        """Return the network as an ONNX model, before it is adapted."""
        return self._graph_of(self._network)

    def _graph_of(
        self, network: dict[str, Array], start: int = 0, stop: int | None = None
    ) -> bytes:
        meta = self._meta
        preprocessing = self.image_size, meta["mean"], meta["std"]
        return lite_graph(meta["backbone"], *preprocessing, network, start, stop)


def _batches(images: Any) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield squares (N, 3, S, S), uint8 or float in [0, 1], as batches of uint8."""
    for start in range(0, len(images), _BATCH):
        batch = as_array(images[start : start + _BATCH])
        if batch.dtype != np.uint8:
            batch = (batch * 255).round().clip(0, 255).astype(np.uint8)
        yield batch


class _Rows:
    """Output of the lower stages for all views of the photos, computed as the photos are decoded.

    `names` are the views, known once the first photos are. `jpegs` and `digests` are keyed by the
    places of the photos, which come in any order.
    """

    def __init__(
        self, lower: Any, views: int | None, mirror: bool | None, thumbnails: bool
    ) -> None:
        self._lower, self._views, self._mirror = lower, views, mirror
        self._thumbnails = thumbnails
        self.names: tuple[str, ...] = ()
        self._file: Any = SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115  # closed by __exit__
        self._shape: tuple[int, ...] = ()
        self._statistics: list[Array] = []
        self._network = ThreadPoolExecutor(1)
        self._running: Future[None] | None = None
        self.jpegs: dict[int, bytes] = {}
        self.digests: dict[int, int] = {}

    def __enter__(self) -> _Rows:
        return self

    def __exit__(self, *_: object) -> None:
        self._network.shutdown()
        self._file.close()

    def take(self, pixels: npt.NDArray[np.uint8], total: int) -> None:
        """Run the lower stages on images (B, 3, S, S) of `total` photos, in a thread."""
        if not self.names:
            self.names = choose_views(self._views, self._mirror, total)
        views = [view(pixels, name) for name in self.names]
        stacked = np.stack(views, 1).reshape(-1, *pixels.shape[1:]) if len(views) > 1 else views[0]
        self.finish()
        self._running = self._network.submit(self._run, stacked)

    def finish(self) -> None:
        """Wait for the images taken last; raise what failed with them."""
        if self._running is not None:
            self._running.result()

    def _run(self, images: npt.NDArray[np.uint8]) -> None:
        [maps] = run_session(self._lower, None, images)
        self._shape = maps.shape[1:]
        self._statistics.append(map_statistics(maps))
        try:
            self._file.write(np.ascontiguousarray(maps).data)
        except OSError as error:
            raise FewshotError(
                f"No room for temporary files ({error.strerror}). Set TMPDIR to a folder with more."
            ) from None

    def look(self, position: int, square: Square) -> None:
        """Keep digest and thumbnail of a photo; safe to call from several threads."""
        self.digests[position] = digest_of(square.pixels.transpose(2, 0, 1))
        if self._thumbnails:
            self.jpegs[position] = thumbnail(square.pixels)

    @property
    def statistics(self) -> Array:
        """Mean and deviation of all maps, (N V, 2C)."""
        return np.concatenate(self._statistics)

    def maps(self) -> Iterator[Array]:
        """Yield all maps in order, in batches."""
        self._file.seek(0)
        size = 4 * _BATCH * math.prod(self._shape)
        while data := self._file.read(size):
            yield np.frombuffer(data, np.float32).reshape(-1, *self._shape)
