"""Classifying thousands of files: photos a second, and peak memory against their number.

    python -m benchmarks.cost.bulk --files 10000 --memory 1000,10000

Seeded drawings with the noise of a camera, 640 x 480 JPEGs, or other photos (--photos FOLDER
--memory 0), are classified from end to end: walk, decode, network, head, CSV. In the same run, and
in turns with it: the same by an export in eight bits (extra `onnx`), onnxruntime alone on as many
images in memory, in single precision, and decoding alone. Peak memory is that of a fresh process
for each number.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks import common
from benchmarks.common import Row, Ways, peak_mib
from fewshot_lite.demo.drawings import draw, write_folder
from fewshot_lite.images.decoding import decode_pixels
from fewshot_lite.networks.sessions import run_session
from fewshot_lite.personal.bulk import Outputs, classify_files, find_photos
from fewshot_lite.personal.export.writing import export_model
from fewshot_lite.personal.exported_model import ExportedModel
from fewshot_lite.personal.loading import load, open_personal
from fewshot_lite.personal.torch_free_model import TorchFreeModel

KINDS = ("mug", "key", "leaf")
BATCH = 64


def main() -> None:
    args = common.arguments(
        __doc__,
        files=10000,
        memory=([1000, 10000], "files to compare"),
        repeats=(3, "slices that the files are timed in"),
        seed=0,
        photos=(Path, "a folder to classify instead of drawings"),
    )
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        files = args.photos or home / "files"
        if args.photos is None:
            write_files(files, max(args.files, *args.memory, 0), args.seed)
        write_folder(home / "things", KINDS, per_kind=5, seed=args.seed)
        load().adapt(home / "things").save(home / "model")
        size = args.files // args.repeats
        photos = (path for path in find_photos([files]) if isinstance(path, Path))
        slices = [list(islice(photos, size)) for _ in range(args.repeats)]
        if len(slices[-1]) < size:
            raise SystemExit(f"{files}: fewer than {args.files} photos")
        found: Row = {"speed": speed(home, slices), "memory": {}}
        for number in filter(None, args.memory):
            found["memory"][number] = common.alone(memory, files, home / "model", number)
    common.emit("bulk", vars(args), found)


def speed(home: Path, slices: list[list[Path]]) -> Row:
    """Photos a second, each slice of the files in all ways in turn; medians over slices."""
    model = TorchFreeModel.load(home / "model")
    assert model is not None
    export = export_model(home / "model", home / "int8.onnx", int8=home / "things")
    fast = ExportedModel.load(export.path)
    images = common.random_images(BATCH, model.image_size).numpy()
    outputs, size = Outputs(csv=home / "out.csv", force=True), len(slices[0])

    def ways(paths: list[Path]) -> Ways:
        return {
            "end_to_end": lambda: classify_files(model, paths, outputs),
            "in_eight_bits": lambda: classify_files(fast, paths, outputs),
            "onnxruntime": lambda: run_network(model._session, images, size),
            "decoding": lambda: decode(paths, model.image_size, BATCH),
        }

    found = common.in_turns([ways(paths) for paths in slices], {"end_to_end": "onnxruntime"})
    rates = {name: size / seconds for name, seconds in found["seconds"].items()}
    slower = min(rates["onnxruntime"], rates["decoding"])
    busy = found["processor_seconds"].items()
    return {
        "photos": size * len(slices),
        "photos_per_second": {name: round(rate, 1) for name, rate in rates.items()},
        "of_the_slower_of_onnxruntime_and_decoding": round(rates["end_to_end"] / slower, 3),
        "in_eight_bits_of_onnxruntime": round(rates["in_eight_bits"] / rates["onnxruntime"], 3),
        "processor_ms_a_photo": {name: round(1000 * value / size, 2) for name, value in busy},
    }


def run_network(session: Any, images: np.ndarray[Any, Any], number: int) -> None:
    """Run a network on so many images, in batches of these."""
    for start in range(0, number, len(images)):
        run_session(session, None, images[: number - start])


def decode(paths: Sequence[Path], size: int, batch: int) -> None:
    for start in range(0, len(paths), batch):
        decode_pixels(paths[start : start + batch], size)


@torch.no_grad()
def memory(folder: Path, model: Path, number: int) -> Row:
    """Peak resident memory of this process when it has classified so many files, in MiB."""
    personal = open_personal(model)
    classify_files(personal, islice(find_photos([folder]), BATCH), Outputs())
    before = peak_mib()
    outputs = Outputs(csv=model.with_name("out.csv"), force=True)
    classify_files(personal, islice(find_photos([folder]), number), outputs)
    return {"after_one_batch_mib": before, "peak_mib": peak_mib()}


def write_files(folder: Path, number: int, seed: int) -> None:
    """`number` JPEGs of 640 x 480, in folders of a thousand."""
    noise = np.random.default_rng(seed).normal(0, 6, (480, 640, 3)).round().astype(np.int16)
    drawings = [
        np.asarray(draw(KINDS[n % 3], Random(n)).resize((640, 480)), np.int16) for n in range(30)
    ]
    for n in range(number):
        path = folder / f"{n // 1000:04d}" / f"IMG_{n:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = drawings[n % 30] + np.roll(noise, (n * 7 % 480, n * 11 % 640), (0, 1))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=88)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
