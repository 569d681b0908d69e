"""Caches of decoded images and of features, of limited size.

The tasks of a data set share its images, so each is decoded once at each size, and goes once
through each fixed backbone, and through the fixed lower stages of each adapted one.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor

from fewshot_lite.core.errors import FewshotError
from fewshot_lite.core.progress import OnDone
from fewshot_lite.data.store import decode
from fewshot_lite.evaluation.methods import FrozenMethod
from fewshot_lite.images.photo import Source
from fewshot_lite.learners import Learner
from fewshot_lite.networks.backbone import Backbone

Key = TypeVar("Key", bound=Hashable)

#: Images that are decoded and classified at a time, so that memory is bounded.
CHUNK = 256
#: Threads that decode images.
_WORKERS = 4


class BoundedCache(Generic[Key]):
    """A cache of tensors that drops the least recently used ones."""

    def __init__(self, limit: int) -> None:
        """Make an empty cache of at most `limit` bytes."""
        self.limit = limit
        self.size = 0
        self._kept: OrderedDict[Key, Tensor] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Key) -> Tensor | None:
        """Return the tensor of a key, or None."""
        value = self._kept.get(key)
        if value is not None:
            self._kept.move_to_end(key)
        return value

    def put(self, key: Key, value: Tensor) -> None:
        """Add a tensor, which must own its memory, if it fits."""
        if key in self._kept or value.nbytes > self.limit:
            return
        self._kept[key] = value
        self.size += value.nbytes
        while self.size > self.limit:
            _, dropped = self._kept.popitem(last=False)
            self.size -= dropped.nbytes

    def stack(
        self, keys: Sequence[Key], compute: Callable[[list[Key]], Iterable[Tensor]]
    ) -> Tensor:
        """Stack the tensors of all keys, calling `compute` with the keys that are missing."""
        rows = {key: row for key in keys if (row := self.get(key)) is not None}
        missing = [key for key in dict.fromkeys(keys) if key not in rows]
        if missing:
            for key, row in zip(missing, compute(missing), strict=True):
                rows[key] = row
                self.put(key, row.clone())
        return torch.stack([rows[key] for key in keys])


class ImageCache:
    """Decoded images by source and size."""

    def __init__(self, limit: int = 2 * 2**30) -> None:
        """Make an empty cache of at most `limit` bytes."""
        self._cache: BoundedCache[tuple[Source, int]] = BoundedCache(limit)

    def images(self, sources: Sequence[Source], size: int) -> Tensor:
        """Return images, uint8 (B, 3, size, size).

        Raises:
            FewshotError: one cannot be read.
        """
        return self._cache.stack([(source, size) for source in sources], self._decode)

    def _decode(self, keys: Sequence[tuple[Source, int]]) -> Tensor:
        sources, (size, *_) = zip(*keys, strict=True)
        decoded, problems = decode(sources, size, workers=_WORKERS)
        for position, reason in problems.items():
            source = sources[position]
            remedy = "Remove or replace it" if isinstance(source, Path) else "Get its file anew"
            raise FewshotError(f"{source}: {reason}. {remedy}.")
        return decoded

    def chunks(self, sources: Sequence[Source], size: int) -> Iterator[Tensor]:
        """Yield images, `CHUNK` at a time, while the next ones are read."""
        starts = range(0, len(sources), CHUNK)
        if len(starts) == 1:
            yield self.images(sources, size)
            return
        with ThreadPoolExecutor(max_workers=1) as reader:
            following = reader.submit(self.images, sources[:CHUNK], size)
            for start in starts:
                current, rest = following, sources[start + CHUNK : start + 2 * CHUNK]
                following = reader.submit(self.images, rest, size) if rest else current
                yield current.result()

    def problems(
        self,
        sources: Sequence[Source],
        size: int,
        on_done: OnDone = lambda done, total: None,
    ) -> Mapping[Source, str]:
        """Return the sources that cannot be read, with reasons; cache the others."""
        problems: dict[Source, str] = {}
        for start in range(0, len(sources), CHUNK):
            part = sources[start : start + CHUNK]
            images, bad = decode(part, size, workers=_WORKERS)
            problems |= {part[position]: reason for position, reason in bad.items()}
            for position, source in enumerate(part):
                if position not in bad:
                    self._cache.put((source, size), images[position].clone())
            on_done(start + len(part), len(sources))
        return problems


class FeatureCache:
    """A cache of features of images under fixed backbones."""

    def __init__(self, images: ImageCache) -> None:
        self._images = images
        self._cache: BoundedCache[tuple[Backbone, int, Source]] = BoundedCache(2**30)

    def features(self, method: FrozenMethod, sources: Sequence[Source]) -> Tensor:
        """Return features (B, d) of images on the method's device."""

        def compute(keys: list[tuple[Backbone, int, Source]]) -> Iterator[Tensor]:
            missing = [source for *_, source in keys]
            for images in self._images.chunks(missing, method.image_size):
                yield from method.bare(images.to(method.device))

        keys = [(method.backbone, method.image_size, source) for source in sources]
        return self._cache.stack(keys, compute)


class LowerMapsCache:
    """A cache of `Learner.lower_maps` of images and their views, by content."""

    def __init__(self) -> None:
        self._cache: BoundedCache[tuple[int, bytes]] = BoundedCache(2 * 2**30)

    @contextlib.contextmanager
    def used_by(self, learner: Learner) -> Iterator[None]:
        """Let `learner.lower_maps` use the cache within the context."""
        compute = learner.lower_maps
        if not learner.first_stage:  # there are no fixed lower stages
            yield
            return

        def lower_maps(images: Tensor) -> Tensor:
            contents = images.cpu().numpy()
            keys = [(id(learner), hashlib.sha1(row.tobytes()).digest()) for row in contents]
            return self._cache.stack(keys, lambda some: compute(images[[*map(keys.index, some)]]))

        learner.lower_maps = lower_maps  # type: ignore[method-assign]
        try:
            yield
        finally:
            del learner.lower_maps
