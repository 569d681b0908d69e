"""Adapting to many photos: time beside decoding and the network alone, and memory a photo.

    python -m benchmarks.cost.adapting --photos 320,1280

Seeded drawings with the noise of a camera, 640 x 480 JPEGs in five classes, are adapted to from
files, as `adapt` does. In turns with it, in parts of the same process: decoding them, and the
network's two halves by onnxruntime on as many views. Memory is what a fresh process held at most,
after importing and opening the base and at the end, for each number of photos.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

from benchmarks import common
from benchmarks.common import Row, peak_mib
from benchmarks.cost.bulk import decode, run_network, write_files
from fewshot_lite.networks.sessions import open_session
from fewshot_lite.personal.torch_free_base import TorchFreeBase
from fewshot_lite.personal.views import choose_views

_BATCH = 16


def main() -> None:
    args = common.arguments(__doc__, photos=[320, 1280], seed=0)
    with tempfile.TemporaryDirectory() as home:
        write_files(Path(home), max(args.photos), args.seed)
        rows = (common.alone(measure, Path(home), number) for number in args.photos)
        common.emit_rows("adapting", args, rows)


def measure(folder: Path, number: int) -> Row:
    """One number of photos, in this process."""
    paths = sorted(folder.rglob("*.jpg"))[:number]
    labels = [f"class {n % 5}" for n in range(number)]
    base = TorchFreeBase.load()
    assert base is not None
    base.adapt(paths[:_BATCH], labels[:_BATCH])  # warms up
    memory, count = [peak_mib()], len(choose_views(None, None, number))

    def adapt() -> None:
        base.adapt(paths, labels)
        memory.append(peak_mib())

    def network() -> None:
        images = common.random_images(_BATCH * count, base.image_size).numpy()
        run_network(open_session(base.graph()), images, number * count)

    decoding = partial(decode, paths, base.image_size, _BATCH)
    found = common.in_turns([{"adapt": adapt, "decoding": decoding, "network": network}], {})
    seconds, processor = found["seconds"], found["processor_seconds"]
    slower = max(seconds["decoding"], seconds["network"])
    both = processor["decoding"] + processor["network"]
    return found | {
        "photos": number,
        "views": count,
        "clock_over_the_slower": round(seconds["adapt"] / slower, 3),
        "processor_over_the_sum": round(processor["adapt"] / both, 3),
        "memory_before_mib": memory[0],
        "memory_mib": memory[1],
    }


if __name__ == "__main__":
    main()
