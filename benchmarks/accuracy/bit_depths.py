"""Grey photos of 10 to 16 bits beside the same of 8: accuracy, all bright or some of them dark.

    python -m benchmarks.accuracy.bit_depths MODEL DATA [DATA ...] --shots 5 --tasks 5

A task is all classes of a data set, with some photos of each to adapt to. `8 to N`: adapted at 8
bits, asked photos of N; `N to N`: at N bits both. White is found over the folder, as `adapt` and
`classify` find it (`images.bit_depths`). In `dark` every second photo that is asked has a twentieth
of the light, at 16 bits; accuracy is of these alone, beside that of their copies at 8 bits and that
with white found of each photo by itself.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from random import Random
from statistics import fmean

import numpy as np
from PIL import Image

from benchmarks.common import Row, arguments, emit, means, say
from benchmarks.personal_tasks import deal
from fewshot_lite.images.bit_depths import find_whites
from fewshot_lite.images.decoding import decode_pixels
from fewshot_lite.images.folders import scan_classes
from fewshot_lite.images.photo import NO_WHITES, load_square
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.personal.personal_model import PersonalModel

_SIDE, _BITS, _ASKED, _DARK = 256, (8, 10, 12, 14, 16), 20, 0.05


def written(path: Path, place: Path, bits: int, light: float = 1.0) -> Path:
    """A grey copy of a photo with so many bits."""
    square = Image.fromarray(load_square(path, _SIDE)).convert("L")
    values = np.asarray(square, np.float32) / 255 * light * (2**bits - 1)
    target = place / f"{path.parent.name}-{path.stem}-{bits}-{light:g}.png"
    Image.fromarray(values.round().astype(np.uint8 if bits == 8 else np.uint16)).save(target)
    return target


def right(
    model: PersonalModel, paths: list[Path], labels: list[str], *, over_folder: bool = True
) -> list[bool]:
    whites = find_whites(paths) if over_folder else NO_WHITES
    pixels, _ = decode_pixels(paths, model.image_size, whites=whites)
    answers = model.answers_of(pixels)[0].argmax(1)
    return [model.class_names[k] == label for k, label in zip(answers, labels, strict=True)]


def of_task(base: MetaModel, data: Path, place: Path, shots: int, rng: Random) -> dict[str, float]:
    folder = scan_classes(data)
    groups = [[folder.paths[i] for i in rows] for rows in folder.indices_by_class()]
    drawn = [rng.sample(group, min(shots + _ASKED, len(group))) for group in groups]
    support, _, asked, _ = deal(drawn, [shots] * len(drawn))
    known, labels = ([path.parent.name for path in paths] for paths in (support, asked))
    models = {
        bits: base.adapt([written(path, place, bits) for path in support], known).accelerate()
        for bits in _BITS
    }
    plain, found = models[8], {}
    for bits, model in models.items():
        copies = [written(path, place, bits) for path in asked]
        found[f"{bits} to {bits}"] = fmean(right(model, copies, labels))
        found[f"8 to {bits}"] = fmean(right(plain, copies, labels))
    for name, bits, whole in (("8 bits", 8, True), ("16 bits", 16, True), ("alone", 16, False)):
        paths = [written(p, place, bits, (1, _DARK)[i % 2]) for i, p in enumerate(asked)]
        answers = right(plain, paths, labels, over_folder=whole)
        found[f"dark, {name}"] = fmean(answers[1::2])
    return found


def main() -> None:
    args = arguments(__doc__, "model", "data+", shots=5, tasks=5, seed=0)
    base = MetaModel.load(args.model)
    rows: list[Row] = []
    for data in args.data:
        found = []
        for number in range(args.tasks):
            with tempfile.TemporaryDirectory() as place:
                rng = Random(f"{args.seed}/{number}")
                found.append(of_task(base, data, Path(place), args.shots, rng))
        rows.append({"data": data.name} | means(found))
        say(rows[-1])
    emit("bit_depths", vars(args), rows)


if __name__ == "__main__":
    main()
