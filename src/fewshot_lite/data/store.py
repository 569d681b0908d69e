"""Decoded images of a data set, in memory as uint8 where they fit, or in a file of a cache.

Training visits every image many times: at 64 to 96 pixels a data set of 100,000 images fits in a
few gigabytes, and decoding once is what keeps two cores busy with the network instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.data.image_cache import CachedImages
from fewshot_lite.data.timed_reading import read_in_time
from fewshot_lite.images.decoding import decode_pixels, worker_count
from fewshot_lite.images.photo import Source, Square


def decode(
    paths: Sequence[Source],
    size: int,
    *,
    workers: int | None = None,
    on_done: Callable[[int], None] | None = None,
) -> tuple[Tensor, dict[int, str]]:
    """Decode photos in parallel; the arguments are those of `decode_pixels`.

    Returns:
        images: uint8 (B, 3, size, size); those that could not be read are black.
        problems: position in `paths` -> reason, for those.
    """
    pixels, problems = decode_pixels(paths, size, workers=workers, on_done=on_done)
    return torch.from_numpy(pixels), problems


class ImageStore:
    """The images of `paths` at one size, by index: `store[[3, 5]]` is uint8 (2, 3, size, size).

    All images are decoded and kept at construction if they need at most `memory_limit` bytes, or
    lie in a file of a cache, and are read from disk at each use otherwise. Unreadable files raise
    `FewshotError` at use, and are listed in `problems` if they were found at construction.

    Processes that a store is sent to share its images with this one.
    """

    def __init__(
        self,
        paths: Sequence[Source],
        size: int,
        *,
        memory_limit: int = 8 * 2**30,
        on_done: Callable[[int], None] | None = None,
        cached: CachedImages | None = None,
    ) -> None:
        self.paths = tuple(paths)
        self.size = size
        self.problems: dict[int, str] = {}
        self.threads = worker_count()
        """How many read from disk."""
        self._cached = cached
        self._kept: Tensor | None = None
        self._given_up: dict[int, str] = {}
        if cached is not None:
            self._kept, self.problems = _mapped(cached), cached.problems
        elif len(self.paths) * 3 * size * size <= memory_limit:
            self._kept, self.problems = decode(self.paths, size, on_done=on_done)

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def unreadable(self) -> list[tuple[Source, str]]:
        """The images of `problems`, each with its reason."""
        return [(self.paths[index], reason) for index, reason in self.problems.items()]

    @property
    def kept(self) -> bool:
        """Whether images are there without decoding."""
        return self._kept is not None

    def share(self) -> None:
        """Move images in memory to where other processes can see them.

        Raises:
            UsageError: there is not enough of such memory.
        """
        if self._kept is None or self._cached is not None:
            return
        try:
            self._kept.share_memory_()
        except RuntimeError:
            needed = self._kept.nbytes / 2**30
            raise UsageError(
                f"--workers: {needed:.1f} GiB of images do not fit into the memory that processes "
                "share (/dev/shm). Give it more, or use --cache FOLDER or --workers 0."
            ) from None

    def read(self, indices: Sequence[int]) -> tuple[Tensor, dict[int, str]]:
        """Images, uint8 (B, 3, size, size), and position in `indices` -> why it is black."""
        problems = {
            position: reason
            for position, index in enumerate(indices)
            if (reason := self.problems.get(index) or self._given_up.get(index))
        }
        if self._kept is not None:
            return self._kept[torch.tensor(indices, dtype=torch.long)], problems
        pixels = np.zeros((len(indices), 3, self.size, self.size), dtype=np.uint8)
        tried = [position for position in range(len(indices)) if position not in problems]

        def keep(number: int, square: Square) -> None:
            pixels[tried[number]] = square.pixels.transpose(2, 0, 1)

        sources = [self.paths[indices[position]] for position in tried]
        failed, slow = read_in_time(sources, self.size, keep, threads=self.threads)
        problems |= {tried[number]: reason for number, reason in failed.items()}
        # Not to be waited for again; what else is wrong may be mended.
        self._given_up |= {indices[tried[number]]: failed[number] for number in slow}
        return torch.from_numpy(pixels), problems

    def __getitem__(self, indices: Sequence[int]) -> Tensor:
        images, problems = self.read(indices)
        for position, reason in problems.items():
            raise FewshotError(f"{self.paths[indices[position]]}: {reason}.")
        return images

    def __getstate__(self) -> dict[str, Any]:
        """A file is mapped again where the store arrives; what is shared is not copied."""
        state = dict(self.__dict__)
        if self._cached is not None:
            state["_kept"] = None
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._cached is not None:
            self._kept = _mapped(self._cached)


def _mapped(cached: CachedImages) -> Tensor:
    """Pages of the file are in memory as they are used; what is written to them stays here."""
    count = cached.images * 3 * cached.size**2
    if not count:
        return torch.zeros(0, 3, cached.size, cached.size, dtype=torch.uint8)
    flat = torch.from_file(str(cached.file), shared=False, size=count, dtype=torch.uint8)
    return flat.view(cached.images, 3, cached.size, cached.size)
