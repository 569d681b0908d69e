"""Adapt to some photos of a folder of class folders and classify the rest, as a user would.

    python -m benchmarks.accuracy.folder FOLDER --shots 5 [--base MODEL] [--repeats 20]

The first repeat takes the first photos by name; each further one draws others (seeded). Accuracy of
the first with a Wilson interval, and the mean over the repeats.
"""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from pathlib import Path

from benchmarks.common import arguments, emit
from fewshot_lite.core.files import DEFAULT_BASE
from fewshot_lite.core.intervals import wilson_interval
from fewshot_lite.images.folders import ImageFolder, scan_classes
from fewshot_lite.personal.meta_model import MetaModel


def split(folder: ImageFolder, shots: int, seed: int) -> tuple[list[Path], list[Path]]:
    """Photos to adapt on and the others; seed 0 takes the first by name."""
    support, rest = [], []
    for indices in folder.indices_by_class():
        paths = [folder.paths[i] for i in indices]
        if seed:
            random.Random(f"{seed}/{paths[0].parent.name}").shuffle(paths)
        support += paths[:shots]
        rest += paths[shots:]
    return support, rest


def main() -> None:
    args = arguments(__doc__, "folder", base=DEFAULT_BASE, shots=5, repeats=20)

    model = MetaModel.load(args.base)
    folder = scan_classes(args.folder)
    correct, total, adapting, classifying = [], 0, 0.0, 0.0
    for seed in range(args.repeats):
        support, rest = split(folder, args.shots, seed)
        with tempfile.TemporaryDirectory() as name:
            for path in support:
                target = Path(name) / path.parent.name / path.name
                target.parent.mkdir(exist_ok=True)
                shutil.copy(path, target)
            start = time.perf_counter()
            personal = model.adapt(name)
            adapting += time.perf_counter() - start
        start = time.perf_counter()
        answers = personal.classify(rest, reject=None)
        classifying += time.perf_counter() - start
        correct.append(sum(a.label == p.parent.name for a, p in zip(answers, rest, strict=True)))
        total = len(rest)
    emit(
        "folder",
        vars(args),
        {
            "photos_classified": total,
            "first_split": {
                "accuracy": correct[0] / total,
                "wilson_interval": wilson_interval(correct[0], total),
            },
            "mean_accuracy": sum(correct) / (total * args.repeats),
            "seconds_to_adapt": adapting / args.repeats,
            "milliseconds_per_photo_classified": 1000 * classifying / (args.repeats * total),
        },
    )


if __name__ == "__main__":
    main()
