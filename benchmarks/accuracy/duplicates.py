"""How many copies of photos `check` recognises, and what it takes for copies on real data sets.

    python -m benchmarks.accuracy.duplicates SET... --photos 60

Of each set, some photos are copied in every way (seeded): saved as JPEG of quality 30 to 90,
resized by 0.25 to 2, brightened, darkened, 5 or 10 % of each side cropped at a random place. Recall
is the share of copies whose pair is reported when all photos of the set and the copies are compared
at once. Of the sets as they are, it counts the photos named as copies: real ones and false alarms.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from benchmarks.common import Row, arguments, emit
from fewshot_lite.images.copies import find_copies
from fewshot_lite.images.decoding import look_through
from fewshot_lite.images.fingerprints import Fingerprints, similar_pairs
from fewshot_lite.images.folders import scan_classes
from fewshot_lite.images.inputs import InMemory
from fewshot_lite.images.photo import Source, Square

#: Copies of fewer pixels a side than this are thumbnails that nobody adapts to.
SMALLEST = 20

Change = Callable[[Image.Image, Random], bytes]


def jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def resized(image: Image.Image, factor: float) -> bytes:
    width, height = (max(1, round(side * factor)) for side in image.size)
    return jpeg(image.resize((width, height), Image.Resampling.LANCZOS), 90)


def brightened(image: Image.Image, contrast: float, light: float) -> bytes:
    values = np.asarray(image, dtype=np.float32) * contrast + light
    return jpeg(Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)), 90)


def cropped(image: Image.Image, share: float, rng: Random) -> bytes:
    width, height = (round(side * (1 - share)) for side in image.size)
    left, top = rng.randint(0, image.width - width), rng.randint(0, image.height - height)
    return jpeg(image.crop((left, top, left + width, top + height)), 90)


CHANGES: dict[str, Change] = {
    "JPEG 30": lambda image, _: jpeg(image, 30),
    "JPEG 60": lambda image, _: jpeg(image, 60),
    "JPEG 90": lambda image, _: jpeg(image, 90),
    "size x 0.25": lambda image, _: resized(image, 0.25),
    "size x 0.5": lambda image, _: resized(image, 0.5),
    "size x 2": lambda image, _: resized(image, 2),
    "brighter": lambda image, _: brightened(image, 1.1, 8),
    "darker": lambda image, _: brightened(image, 0.9, -8),
    "crop 5 %": lambda image, rng: cropped(image, 0.05, rng),
    "crop 10 %": lambda image, rng: cropped(image, 0.1, rng),
}


def measure(root: Path, number: int, size: int, seed: int) -> Row:
    """Recall of each kind of copy, and what is named in the set as it is."""
    folder, rng = scan_classes(root), Random(seed)
    count = len(folder.paths)
    chosen = rng.sample(range(count), min(number, count))
    known = Fingerprints(count)
    look_through(folder.paths, size, lambda row, square: known.set(row, square.pixels))
    names = len(folder.class_names)
    copies = find_copies(folder.paths, folder.labels, known, list(range(count)), names)
    recall: dict[str, list[int]] = {}
    for name, change in CHANGES.items():
        made: dict[int, Source] = {}
        for row in chosen:
            with Image.open(folder.paths[row]) as image:
                data = change(image.convert("RGB"), rng)
            with Image.open(io.BytesIO(data)) as image:
                if min(image.size) >= SMALLEST:
                    made[row] = InMemory(data, name)
        both = Fingerprints(count + len(made))
        both.grey[:count], both.colour[:count] = known.grey, known.colour

        def keep(row: int, square: Square, both: Fingerprints = both) -> None:
            both.set(count + row, square.pixels)

        look_through(list(made.values()), size, keep)
        found = {(a, b) for a, b, _ in similar_pairs(both, np.arange(len(both)))}
        recall[name] = [sum((row, count + i) in found for i, row in enumerate(made)), len(made)]
    return {
        "photos": count,
        "recall": recall,
        "named_in_one_class": sum(len(group.members) for group in copies.within),
        "named_in_two_classes": sum(len(group.members) for group in copies.across),
    }


def main() -> None:
    args = arguments(__doc__, "sets+", photos=(60, "of each set, to copy"), size=96, seed=0)
    sets = {path.name: measure(path, args.photos, args.size, args.seed) for path in args.sets}
    recall = {
        name: sum(s["recall"][name][0] for s in sets.values())
        / max(1, sum(s["recall"][name][1] for s in sets.values()))
        for name in CHANGES
    }
    emit("duplicates", vars(args), {"recall": recall, "sets": sets})


if __name__ == "__main__":
    main()
