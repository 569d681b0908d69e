"""Decoded images of a data set, in memory as uint8 where they fit.

Training visits every image many times: at 64 to 96 pixels a data set of 100,000 images fits in a
few gigabytes, and decoding once is what keeps two cores busy with the network instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fewshot_lite.data.decoding import decode_pixels
from fewshot_lite.data.photos import Source, Square
from fewshot_lite.errors import FewshotError


def decode(
    paths: Sequence[Source],
    size: int,
    *,
    workers: int | None = None,
    on_done: Callable[[int], None] | None = None,
    look: Callable[[int, Square], None] | None = None,
) -> tuple[Tensor, dict[int, str]]:
    """Decode photos in parallel; the arguments are those of `decode_pixels`.

    Returns:
        images: uint8 (B, 3, size, size); those that could not be read are black.
        problems: position in `paths` -> reason, for those.
    """
    pixels, problems = decode_pixels(paths, size, workers=workers, on_done=on_done, look=look)
    return torch.from_numpy(pixels), problems


class ImageStore:
    """The images of `paths` at one size, by index: `store[[3, 5]]` is uint8 (2, 3, size, size).

    All images are decoded and kept at construction if they need at most `memory_limit` bytes, and
    read from disk at each use otherwise. Unreadable files raise `FewshotError` at use, and are
    listed in `problems` if they were found at construction.
    """

    def __init__(
        self,
        paths: Sequence[Source],
        size: int,
        *,
        memory_limit: int = 8 * 2**30,
        on_done: Callable[[int], None] | None = None,
    ) -> None:
        self.paths = tuple(paths)
        self.size = size
        self.problems: dict[int, str] = {}
        self._cache: Tensor | None = None
        if len(self.paths) * 3 * size * size <= memory_limit:
            self._cache, self.problems = decode(self.paths, size, on_done=on_done)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, indices: Sequence[int]) -> Tensor:
        if self._cache is not None:
            for index in self.problems.keys() & indices:
                raise FewshotError(f"{self.paths[index]}: {self.problems[index]}.")
            return self._cache[torch.tensor(indices, dtype=torch.long)]
        images, problems = decode([self.paths[i] for i in indices], self.size)
        for position, reason in problems.items():
            raise FewshotError(f"{self.paths[indices[position]]}: {reason}.")
        return images
