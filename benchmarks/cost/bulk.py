"""Classifying thousands of files: photos a second, and peak memory against their number.

    python -m benchmarks.cost.bulk --files 10000 --memory 1000,10000

Seeded drawings with noise, 640 x 480 JPEGs, are made once and classified from end to end (walk,
decode, network, head, CSV). In the same run, and in turns with it: the bare backbone on as many
images in memory, and decoding alone. Peak memory is that of a fresh process for each number.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from benchmarks.common import emit, mebibytes, numbers, peak, point
from fewshot_lite.demo.drawings import draw, write_folder
from fewshot_lite.images.decoding import decode_pixels
from fewshot_lite.images.folders import Skipped
from fewshot_lite.learners.base import map_batches
from fewshot_lite.personal.bulk import Outputs, classify_files, find_photos
from fewshot_lite.personal.meta_model import load
from fewshot_lite.personal.model import PersonalModel

KINDS = ("mug", "key", "leaf")
BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--memory", type=numbers, default="1000,10000", help="files to compare")
    parser.add_argument("--repeats", type=int, default=3, help="slices that the files are timed in")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="keep the files here, and use those that are")
    parser.add_argument("--point", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.point:
        print(json.dumps(measure_memory(*args.point)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        folder = args.folder or home / "files"
        write_files(folder, max(args.files, *args.memory, 0), args.seed)
        write_folder(home / "things", KINDS, per_kind=5, seed=args.seed)
        model = load().adapt(home / "things")
        model.save(home / "model")
        speed = measure_speed(model, folder, args.files, args.repeats, home / "out.csv")
        rows = [
            point(__spec__.name, folder, home / "model", number, home / f"{number}.csv")
            for number in args.memory
        ]
        emit("bulk", vars(args), {"speed": speed, "memory": rows})


def measure_speed(
    model: PersonalModel, folder: Path, number: int, slices: int, output: Path
) -> dict[str, object]:
    """Photos a second, each slice of the files in all ways in turn."""
    size = number // slices
    names = ("end to end", "backbone", "decoding", "decoding and backbone in turn")
    seconds: dict[str, list[float]] = {name: [] for name in names}
    cpu: dict[str, float] = dict.fromkeys(names, 0.0)
    noise = torch.randint(0, 256, (BATCH, 3, model.image_size, model.image_size))
    images = noise.to(torch.uint8)
    photos = find_photos([folder])
    for _ in range(slices):
        paths = [path for path in islice(photos, size) if isinstance(path, Path)]

        def end_to_end(paths: list[Path] = paths) -> None:
            tally = classify_files(model, paths, Outputs(csv=output, force=True))
            assert (tally.files, tally.failed) == (size, 0)

        @torch.no_grad()
        def backbone() -> None:
            for _ in range(0, size, BATCH):
                map_batches(model.backbone, images, BATCH)

        def decoding(paths: list[Path] = paths) -> None:
            for start in range(0, size, BATCH):
                decode_pixels(paths[start : start + BATCH], model.image_size)

        @torch.no_grad()
        def in_turn(paths: list[Path] = paths) -> None:
            for start in range(0, size, BATCH):
                pixels, _ = decode_pixels(paths[start : start + BATCH], model.image_size)
                map_batches(model.backbone, torch.from_numpy(pixels), BATCH)

        ways = dict(zip(names, (end_to_end, backbone, decoding, in_turn), strict=True))
        for name, way in ways.items():
            start, start_cpu = time.perf_counter(), time.process_time()
            way()
            seconds[name].append(time.perf_counter() - start)
            cpu[name] += time.process_time() - start_cpu
    rates = {name: size * slices / sum(values) for name, values in seconds.items()}
    slower = min(rates["backbone"], rates["decoding"])
    whole = rates["end to end"]
    return {
        "photos": size * slices,
        "photos_per_second": rates,
        "of the backbone": whole / rates["backbone"],
        "of the slower of backbone and decoding": whole / slower,
        "of the two in turn": whole / rates["decoding and backbone in turn"],
        "cpu_ms_a_photo": {name: 1e3 * value / (size * slices) for name, value in cpu.items()},
        "seconds": seconds,
    }


def measure_memory(folder: str, model: str, number: str, output: str) -> dict[str, int]:
    """Peak resident memory of this process when it has classified so many files, in MiB."""
    personal = PersonalModel.load(model)

    def photos() -> Iterator[Path | Skipped]:
        yield from islice(find_photos([Path(folder)]), int(number))

    personal.classify(list(islice(find_photos([Path(folder)]), BATCH)))  # type: ignore[arg-type]
    before = mebibytes(peak())
    classify_files(personal, photos(), Outputs(csv=Path(output)))
    return {"files": int(number), "after_one_batch_mib": before, "peak_mib": mebibytes(peak())}


def write_files(folder: Path, number: int, seed: int) -> None:
    """`number` JPEGs in folders of a thousand; those that are there are kept."""
    jobs = [
        (folder / f"{n // 1000:04d}" / f"IMG_{n:06d}.jpg", f"{seed}/{n}") for n in range(number)
    ]
    for home in {path.parent for path, _ in jobs}:
        home.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(write_file, *zip(*jobs, strict=True), chunksize=50))


def write_file(path: Path, seed: str) -> None:
    """One drawing, 640 x 480, with the noise of a camera."""
    if path.exists():
        return
    rng = random.Random(seed)
    moved = np.roll(noise(), (rng.randrange(480), rng.randrange(640)), (0, 1))
    pixels = (drawing(rng.randrange(30)) + moved).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path, quality=88)


@lru_cache
def drawing(number: int) -> npt.NDArray[np.int16]:
    """(480, 640, 3)."""
    image = draw(KINDS[number % len(KINDS)], random.Random(number)).resize((640, 480))
    return np.asarray(image).astype(np.int16)


@lru_cache
def noise() -> npt.NDArray[np.int16]:
    """(480, 640, 3)."""
    return np.random.default_rng(0).normal(0, 6, (480, 640, 3)).round().astype(np.int16)


if __name__ == "__main__":
    main()
