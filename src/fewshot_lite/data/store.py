"""Decoded images of a data set: uint8 in memory if they fit, in a cache file, or decoded per use.

Training visits every image many times: at 64 to 96 pixels a data set of 100,000 images fits in a
few gigabytes, and decoding once leaves the cores to the network.
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
    """Decode photos to a tensor; see `decode_pixels`."""
    pixels, problems = decode_pixels(paths, size, workers=workers, on_done=on_done)
    return torch.from_numpy(pixels), problems


class ImageStore:
    """The images of `paths` at one size, by index: `store[[3, 5]]` is uint8 (2, 3, size, size).

    Images are read from a cache file if there is one. Otherwise all are decoded at construction and
    kept if they need at most `memory_limit` bytes, or else decoded at each use. Unreadable files
    raise `FewshotError` at use; those found at construction are listed in `problems`.

    A store that is sent to another process shares its images with this one.
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
        """Number of threads that decode at each use."""
        self._cached = cached
        self._kept: Tensor | None = None
        self._timed_out: dict[int, str] = {}
        if cached is not None:
            self._kept, self.problems = _mapped(cached), cached.problems
        elif len(self.paths) * 3 * size * size <= memory_limit:
            self._kept, self.problems = decode(self.paths, size, on_done=on_done)

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def unreadable(self) -> list[tuple[Source, str]]:
        """The unreadable images found at construction, each with its reason."""
        return [(self.paths[index], reason) for index, reason in self.problems.items()]

    @property
    def kept(self) -> bool:
        """Whether images are available without decoding."""
        return self._kept is not None

    def share(self) -> None:
        """Move images to shared memory; raise UsageError if it is too small."""
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
        """Return images, uint8 (B, 3, size, size), and reasons for unreadable (black) ones.

        The reasons are by position in `indices`.
        """
        problems = {
            position: reason
            for position, index in enumerate(indices)
            if (reason := self.problems.get(index) or self._timed_out.get(index))
        }
        if self._kept is not None:
            return self._kept[torch.tensor(indices, dtype=torch.long)], problems
        pixels = np.zeros((len(indices), 3, self.size, self.size), dtype=np.uint8)
        positions = [position for position in range(len(indices)) if position not in problems]

        def keep(number: int, square: Square) -> None:
            pixels[positions[number]] = square.pixels.transpose(2, 0, 1)

        sources = [self.paths[indices[position]] for position in positions]
        failed, slow = read_in_time(sources, self.size, keep, threads=self.threads)
        problems |= {positions[number]: reason for number, reason in failed.items()}
        # Do not wait for these again; other failures may be temporary.
        self._timed_out |= {indices[positions[number]]: failed[number] for number in slow}
        return torch.from_numpy(pixels), problems

    def __getitem__(self, indices: Sequence[int]) -> Tensor:
        images, problems = self.read(indices)
        for position, reason in problems.items():
            raise FewshotError(f"{self.paths[indices[position]]}: {reason}.")
        return images

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the images of a cache file, which the receiving process maps again."""
        state = dict(self.__dict__)
        if self._cached is not None:
            state["_kept"] = None
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._cached is not None:
            self._kept = _mapped(self._cached)


def _mapped(cached: CachedImages) -> Tensor:
    """Map the file copy-on-write: pages are loaded as they are used."""
    count = cached.images * 3 * cached.size**2
    if not count:
        return torch.zeros(0, 3, cached.size, cached.size, dtype=torch.uint8)
    flat = torch.from_file(str(cached.file), shared=False, size=count, dtype=torch.uint8)
    return flat.view(cached.images, 3, cached.size, cached.size)
