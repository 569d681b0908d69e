"""Adapting to many photos: time beside decoding and the network alone, and memory a photo.

    python -m benchmarks.cost.adapting --photos 320,1280

Seeded drawings with the noise of a camera, 640 x 480 JPEGs in five classes, are adapted to from
files, as `adapt` does. In turns with it, in parts of the same process: decoding them, and the
network's two halves by onnxruntime on as many views. Memory is what a fresh process held at most,
after importing and opening the base and at the end, for each number of photos.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.common import Row, arguments, emit, fresh, mebibytes, peak, say, timed
from benchmarks.cost.bulk import write_files
from fewshot_lite.images.decoding import decode_pixels
from fewshot_lite.networks.sessions import open_session, run_session
from fewshot_lite.personal.torch_free_base import TorchFreeBase
from fewshot_lite.personal.views import choose_views

#: Classes that the photos are dealt out over.
_CLASSES = 5
_BATCH = 16


def main() -> None:
    args = arguments(__doc__, photos=[320, 1280], views=int, seed=0)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as home:
        write_files(Path(home), max(args.photos), args.seed)
        for number in args.photos:
            rows.append({"photos": number} | fresh(measure, Path(home), number, args.views))
            say(rows[-1])
    emit("adapting", vars(args), rows)


def measure(folder: Path, number: int, views: int | None) -> Row:
    """One number of photos, in this process."""
    paths = sorted(folder.rglob("*.jpg"))[:number]
    labels = [f"class {n % _CLASSES}" for n in range(number)]
    base = TorchFreeBase.load()
    assert base is not None
    base.adapt(paths[:_BATCH], labels[:_BATCH], views=views)  # warms up
    before = mebibytes(peak())
    names = choose_views(views, None, number)

    def adapt() -> None:
        base.adapt(paths, labels, views=views)

    def decoding() -> None:
        for start in range(0, number, _BATCH):
            decode_pixels(paths[start : start + _BATCH], base.image_size)

    def network() -> None:
        images = np.random.default_rng(0).integers(
            0, 256, (_BATCH * len(names), 3, base.image_size, base.image_size), np.uint8
        )
        whole = open_session(base.graph())
        for _ in range(0, number, _BATCH):
            run_session(whole, None, images)

    seconds, processor = {}, {}
    ways: tuple[Callable[[], None], ...] = (adapt, decoding, network)
    for way in ways:
        seconds[way.__name__], processor[way.__name__] = timed(way)
        if way is adapt:
            after = mebibytes(peak())
    slower = max(seconds["decoding"], seconds["network"])
    both = processor["decoding"] + processor["network"]
    return {
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "processor": {name: round(value, 2) for name, value in processor.items()},
        "views": len(names),
        "clock_over_the_slower": round(seconds["adapt"] / slower, 3),
        "processor_over_the_sum": round(processor["adapt"] / both, 3),
        "memory_before_mib": before,
        "memory_mib": after,
    }


if __name__ == "__main__":
    main()
