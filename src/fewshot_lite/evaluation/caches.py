"""Decoded images and features, kept as far as a given memory allows.

The tasks of a data set share its images, so each is decoded once at each size, and goes through
each unchanged backbone, and the unchanged lower part of each adapted one, once.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping, Sequence
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

#: Images that are decoded and classified at a time, so that any number of queries will do.
CHUNK = 256


class BoundedCache(Generic[Key]):
    """Tensors by key; the least recently used ones make room."""

    def __init__(self, limit: int) -> None:
        """An empty cache of at most `limit` bytes."""
        self.limit = limit
        self.size = 0
        self._kept: OrderedDict[Key, Tensor] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Key) -> Tensor | None:
        """The value kept for this key, or None."""
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def put(self, key: Key, value: Tensor) -> None:
        """Keep a tensor of its own memory, if it fits at all."""
        if key in self._kept or value.nbytes > self.limit:
            return
        self._kept[key] = value
        self.size += value.nbytes
        while self.size > self.limit:
            _, dropped = self._kept.popitem(last=False)
            self.size -= dropped.nbytes


class ImageCache:
    """Decoded images by source and size."""

    def __init__(self, limit: int = 2 * 2**30, workers: int = 4) -> None:
        """An empty cache of at most `limit` bytes; `workers` threads decode."""
        self._cache: BoundedCache[tuple[Source, int]] = BoundedCache(limit)
        self._workers = workers

    def images(self, sources: Sequence[Source], size: int) -> Tensor:
        """Images, uint8 (B, 3, size, size).

        Raises:
            FewshotError: one cannot be read.
        """
        found = {s: image for s in sources if (image := self._cache.get((s, size))) is not None}
        missing = [s for s in dict.fromkeys(sources) if s not in found]
        if missing:
            decoded, problems = decode(missing, size, workers=self._workers)
            for position, reason in problems.items():
                source = missing[position]
                remedy = "Remove or replace it" if isinstance(source, Path) else "Get its file anew"
                raise FewshotError(f"{source}: {reason}. {remedy}.")
            found |= zip(missing, decoded, strict=True)
            for source in missing:
                self._cache.put((source, size), found[source].clone())
        return torch.stack([found[source] for source in sources])

    def chunks(self, sources: Sequence[Source], size: int) -> Iterator[tuple[int, Tensor]]:
        """All of them, `CHUNK` at a time with the first one's position, the next being read."""
        starts = range(0, len(sources), CHUNK)
        if len(starts) == 1:  # no thread for what is mostly kept already
            yield 0, self.images(sources, size)
            return
        with ThreadPoolExecutor(max_workers=1) as reader:
            coming = reader.submit(self.images, sources[:CHUNK], size)
            for start in starts:
                found, after = coming, sources[start + CHUNK : start + 2 * CHUNK]
                coming = reader.submit(self.images, after, size) if after else found
                yield start, found.result()

    def problems(
        self,
        sources: Sequence[Source],
        size: int,
        on_done: OnDone = lambda done, total: None,
    ) -> Mapping[Source, str]:
        """Which of them cannot be read, and why; the others are kept as far as they fit."""
        problems: dict[Source, str] = {}
        for start in range(0, len(sources), CHUNK):
            part = sources[start : start + CHUNK]
            images, bad = decode(part, size, workers=self._workers)
            problems |= {part[position]: reason for position, reason in bad.items()}
            for position, source in enumerate(part):
                if position not in bad:
                    self._cache.put((source, size), images[position].clone())
            on_done(start + len(part), len(sources))
        return problems


class FeatureCache:
    """Features of images under backbones that no task changes."""

    def __init__(self, images: ImageCache, limit: int = 2**30) -> None:
        """An empty cache of at most `limit` bytes."""
        self._images = images
        self._cache: BoundedCache[tuple[Backbone, int, Source]] = BoundedCache(limit)

    def features(self, method: FrozenMethod, sources: Sequence[Source]) -> Tensor:
        """Features (B, d) of images, on the method's device."""
        key = (method.backbone, method.image_size)
        found = {s: row for s in sources if (row := self._cache.get((*key, s))) is not None}
        missing = [s for s in dict.fromkeys(sources) if s not in found]
        for start, images in self._images.chunks(missing, method.image_size) if missing else ():
            rows = method.bare(images.to(method.passes.device))
            for source, row in zip(missing[start : start + CHUNK], rows, strict=True):
                found[source] = row
                self._cache.put((*key, source), row.clone())
        return torch.stack([found[source] for source in sources])


class LowerMapsCache:
    """The maps of `Learner.lower_maps`, of images and of their views, by content."""

    def __init__(self, limit: int = 2 * 2**30) -> None:
        """An empty cache of at most `limit` bytes."""
        self._cache: BoundedCache[tuple[int, bytes]] = BoundedCache(limit)

    @contextlib.contextmanager
    def used_by(self, learner: Learner) -> Iterator[None]:
        """While the context lasts, `learner.lower_maps` computes only what is not kept."""
        compute = learner.lower_maps
        if not learner.first_stage:  # which lowers nothing
            yield
            return

        def lower_maps(images: Tensor) -> Tensor:
            contents = images.cpu().numpy()
            keys = [(id(learner), hashlib.sha1(row.tobytes()).digest()) for row in contents]
            found = {key: row for key in keys if (row := self._cache.get(key)) is not None}
            missing = {key: row for row, key in enumerate(keys) if key not in found}
            if missing:
                rows = compute(images[list(missing.values())])
                for key, row in zip(missing, rows, strict=True):
                    found[key] = row
                    self._cache.put(key, row.clone())
            return torch.stack([found[key] for key in keys])

        learner.lower_maps = lower_maps  # type: ignore[method-assign]
        try:
            yield
        finally:
            del learner.lower_maps
