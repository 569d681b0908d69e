"""Adapting large JPEGs: at the reduced scale they are decoded at, and with full decoding.

    python -m benchmarks.cost.decoding /data/clothing-original-size

Photos are enlarged to so many megapixels and saved (quality 90, seeded choice), then adapted in one
process for each way, in turns: `adapt` as it is, and with `Image.draft` doing nothing. Wall time of
the whole process; and, in this process, of reading alone by the number of threads.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from PIL import Image

from benchmarks.common import emit
from fewshot_lite.images.decoding import look_through, worker_count
from fewshot_lite.images.folders import scan_classes

_FULLY = """
from PIL.JpegImagePlugin import JpegImageFile
JpegImageFile.draft = lambda *_: None
"""
_RUN = """
import sys
from fewshot_lite.cli.app import main
sys.argv = ["fewshot-lite", "adapt", {folder!r}, "--output", {output!r}, "--force"]
main()
"""


def enlarge(source: Path, target: Path, photos: int, megapixels: float, seed: int) -> None:
    """A folder of `photos` photos in all, of every class as many or one more."""
    folder = scan_classes(source)
    groups = [list(indices) for indices in folder.indices_by_class()]
    for group in groups:
        Random(seed).shuffle(group)
    for number in range(photos):
        group = groups[number % len(groups)]
        path = folder.paths[group[number // len(groups) % len(group)]]
        home = target / path.relative_to(source).parts[0]
        home.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            scale = (megapixels * 1e6 / (image.width * image.height)) ** 0.5
            size = (round(image.width * scale), round(image.height * scale))
            large = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
        large.save(home / f"{number:03d}.jpg", quality=90)


def seconds(script: str) -> tuple[float, float]:
    """Wall time and processor time of a process; the latter tells on a busy machine too."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos_of", type=Path)
    parser.add_argument("--photos", type=int, default=100)
    parser.add_argument("--megapixels", type=float, default=12.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4, 8])
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder, output = Path(scratch) / "photos", Path(scratch) / "mine.safetensors"
        enlarge(args.photos_of, folder, args.photos, args.megapixels, args.seed)
        paths = scan_classes(folder).paths
        megabytes = sum(path.stat().st_size for path in paths) / 1e6
        run = _RUN.format(folder=str(folder), output=str(output))
        scripts = {"reduced": run, "full": _FULLY + run}
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in scripts}
        for _ in range(args.repeats):
            for name, script in scripts.items():
                times[name].append(seconds(script))
        reading: dict[int, list[float]] = {workers: [] for workers in args.workers}
        for _ in range(args.repeats):
            for workers in args.workers:
                start = time.perf_counter()
                look_through(paths, 96, lambda *_: None, workers=workers)
                reading[workers].append((time.perf_counter() - start) / len(paths) * 1e3)
    wall = {name: statistics.median(w for w, _ in values) for name, values in times.items()}
    cpu = {name: statistics.median(c for _, c in values) for name, values in times.items()}
    result = {
        "megabytes": megabytes,
        "wall_and_processor_seconds": times,
        "wall_seconds": wall,
        "processor_seconds": cpu,
        "full_over_reduced": {
            "wall": wall["full"] / wall["reduced"],
            "processor": cpu["full"] / cpu["reduced"],
        },
        "reading_ms_a_photo_by_workers": {w: statistics.median(v) for w, v in reading.items()},
        "workers_by_default": worker_count(),
    }
    emit("decoding", vars(args), result)


if __name__ == "__main__":
    main()
