"""Adapting large JPEGs: at the reduced scale they are decoded at, and with full decoding.

    python -m benchmarks.cost.decoding DATA/clothing-original-size

Photos are enlarged to so many megapixels and saved (quality 90, seeded choice), then adapted in a
process for each way, in turns: `adapt` as it is, and with `Image.draft` doing nothing. Medians of
the whole process's time on the clock and of its processor time, which tells on a busy machine too.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from statistics import median

from PIL import Image

from benchmarks.common import arguments, emit
from fewshot_lite.images.folders import scan_classes

_FULLY = "from PIL.JpegImagePlugin import JpegImageFile; JpegImageFile.draft = lambda *_: None\n"
_RUN = """import sys
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
    """Time on the clock and processor time of a process."""
    before, start = os.times(), time.perf_counter()
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)
    clock, after = time.perf_counter() - start, os.times()
    return clock, sum(after[2:4]) - sum(before[2:4])


def main() -> None:
    args = arguments(__doc__, "photos_of", photos=100, megapixels=12.0, repeats=3, seed=0)
    with tempfile.TemporaryDirectory() as scratch:
        folder, output = Path(scratch) / "photos", Path(scratch) / "mine.safetensors"
        enlarge(args.photos_of, folder, args.photos, args.megapixels, args.seed)
        run = _RUN.format(folder=str(folder), output=str(output))
        runs = [(seconds(run), seconds(_FULLY + run)) for _ in range(args.repeats)]
    result = {}
    for position, kind in enumerate(("clock", "processor")):
        reduced, full = (median(pair[way][position] for pair in runs) for way in (0, 1))
        result[kind] = {"reduced": reduced, "full": full, "full_over_reduced": full / reduced}
    emit("decoding", vars(args), result)


if __name__ == "__main__":
    main()
