"""Adapt to some photos of a folder of class folders and classify the rest, as a user would.

    python -m benchmarks.accuracy.folder FOLDER --shots 5 [--base MODEL] [--repeats 20]

The first repeat takes the first photos by name; each further one draws others (seeded). Accuracy of
the first with a Wilson interval, and the mean over the repeats.
"""

from __future__ import annotations

import random

from benchmarks.common import arguments, emit
from benchmarks.personal_tasks import deal
from fewshot_lite.core.files import DEFAULT_BASE
from fewshot_lite.core.intervals import wilson_interval
from fewshot_lite.images.folders import scan_classes
from fewshot_lite.personal.meta_model import MetaModel


def main() -> None:
    args = arguments(__doc__, "folder", base=DEFAULT_BASE, shots=5, repeats=20)
    model, folder = MetaModel.load(args.base), scan_classes(args.folder)
    correct = []
    for seed in range(args.repeats):
        groups = [[folder.paths[i] for i in rows] for rows in folder.indices_by_class()]
        for paths in groups if seed else ():
            random.Random(f"{seed}/{paths[0].parent.name}").shuffle(paths)
        support, _, rest, _ = deal(groups, [args.shots] * len(groups))
        personal = model.adapt(support, [path.parent.name for path in support])
        answers = personal.classify(rest, reject=None)
        correct.append(sum(a.label == p.parent.name for a, p in zip(answers, rest, strict=True)))
    found = {
        "photos_classified": len(rest),
        "accuracy_of_the_first": correct[0] / len(rest),
        "wilson_interval": wilson_interval(correct[0], len(rest)),
        "mean_accuracy": sum(correct) / (len(rest) * args.repeats),
    }
    emit("folder", vars(args), found)


if __name__ == "__main__":
    main()
