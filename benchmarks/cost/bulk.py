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
from collections import defaultdict
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from random import Random

import numpy as np
import torch
from PIL import Image

from benchmarks.common import Row, arguments, emit, fresh, mebibytes, peak, random_images, timed
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
    args = arguments(
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
        model = TorchFreeModel.load(home / "model")
        assert model is not None
        given = home / "model", home / "int8.onnx"
        fast = ExportedModel.load(export_model(*given, int8=home / "things").path)
        models = model, fast
        found = {"speed": speed(models, files, args.files, args.repeats, home / "out.csv")}
        found["memory"] = {
            number: fresh(memory, files, home / "model", number, home / "m.csv")
            for number in args.memory
            if number
        }
    emit("bulk", vars(args), found)


def speed(
    models: tuple[TorchFreeModel, ExportedModel],
    folder: Path,
    number: int,
    slices: int,
    output: Path,
) -> Row:
    """Photos a second, each slice of the files in all ways in turn."""
    model, fast = models
    size = number // slices
    images = random_images(BATCH, model.image_size).numpy()
    photos = find_photos([folder])
    seconds, processor = defaultdict[str, float](float), defaultdict[str, float](float)
    for _ in range(slices):
        paths = [path for path in islice(photos, size) if isinstance(path, Path)]

        def end_to_end(paths: list[Path] = paths) -> None:
            assert classify_files(model, paths, Outputs(csv=output, force=True)).files == size

        def in_eight_bits(paths: list[Path] = paths) -> None:
            assert classify_files(fast, paths, Outputs(csv=output, force=True)).files == size

        def onnxruntime() -> None:
            for start in range(0, size, BATCH):
                run_session(model._session, None, images[: size - start])

        def decoding(paths: list[Path] = paths) -> None:
            for start in range(0, size, BATCH):
                decode_pixels(paths[start : start + BATCH], model.image_size)

        ways: tuple[Callable[[], None], ...] = (end_to_end, in_eight_bits, onnxruntime, decoding)
        for way in ways:
            clock, busy = timed(way)
            seconds[way.__name__] += clock
            processor[way.__name__] += busy
    rates = {name: size * slices / value for name, value in seconds.items()}
    slower = min(rates["onnxruntime"], rates["decoding"])
    each = {name: round(1000 * value / size / slices, 2) for name, value in processor.items()}
    return {
        "photos": size * slices,
        "photos_per_second": {name: round(rate, 1) for name, rate in rates.items()},
        "of_the_slower_of_onnxruntime_and_decoding": round(rates["end_to_end"] / slower, 3),
        "in_eight_bits_of_onnxruntime": round(rates["in_eight_bits"] / rates["onnxruntime"], 3),
        "processor_ms_a_photo": each,
    }


@torch.no_grad()
def memory(folder: Path, model: Path, number: int, output: Path) -> Row:
    """Peak resident memory of this process when it has classified so many files, in MiB."""
    personal = open_personal(model)
    classify_files(personal, islice(find_photos([folder]), BATCH), Outputs())
    before = mebibytes(peak())
    classify_files(personal, islice(find_photos([folder]), number), Outputs(csv=output, force=True))
    return {"after_one_batch_mib": before, "peak_mib": mebibytes(peak())}


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
