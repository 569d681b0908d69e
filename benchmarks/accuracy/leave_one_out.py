"""Expected accuracy from photos left out, beside the accuracy on held-back photos.

    python -m benchmarks.accuracy.leave_one_out MODEL DATA [DATA ...] --shots 5,10 --tasks 100

For each data set and number of shots: the accuracy on held-back photos; the mean of what `assess`
expects and of the plain share right when left out, their mean absolute errors, and how often the
interval holds the accuracy (that is itself of few photos: where a data set has few, the interval
cannot hold it as often). Then, with a share of the labels made wrong: how many photos are called
suspicious, and how many of those rightly; and how many are with the labels as they are. (Not of
models that adapt by gradient, whose network depends on the labels.)
"""

from __future__ import annotations

from random import Random

import numpy as np
import torch

from benchmarks.common import emit
from benchmarks.personal_tasks import PersonalTask, each_set, task_arguments
from fewshot_lite.core.intervals import wilson_interval
from fewshot_lite.personal.file_contents import Contents
from fewshot_lite.personal.personal_model import PersonalModel
from fewshot_lite.personal.quality import assess


def mislabelled(
    personal: PersonalModel, share: float, rng: Random
) -> tuple[PersonalModel, set[int]]:
    """The same model with a share of labels, one at least, changed to another class's."""
    labels = personal.contents.labels.copy()
    way = len(personal.class_names)
    wrong = rng.sample(range(len(labels)), max(1, round(share * len(labels))))
    for index in wrong:
        labels[index] = (int(labels[index]) + rng.randrange(1, way)) % way
    if int(np.bincount(labels, minlength=way).min()) == 0:
        return mislabelled(personal, share, rng)
    changed = PersonalModel(
        personal.backbone,  # FiLM comes from the images alone, so it is what it would be
        personal.head,
        Contents(
            personal.class_names,
            personal.image_size,
            personal.provenance,
            personal.contents.features[:, :1],
            labels,
        ),
    )
    return changed, set(wrong)


def of_task(task: PersonalTask, share: float, rng: Random) -> dict[str, float]:
    personal = task.personal
    quality = assess(personal)
    assert quality.accuracy is not None
    assert quality.interval is not None
    answers = personal.outputs_of(task.queries).probabilities.argmax(1)
    true = float((answers == task.truth).double().mean())
    plain = quality.right / quality.photos
    low, high = wilson_interval(quality.right, quality.photos)
    flagged: set[int] = set()
    wrong: set[int] = set()
    if not personal.adapted_by_gradient:
        changed, wrong = mislabelled(personal, share, rng)
        flagged = {item.index for item in assess(changed).suspicious}
    return {
        "true": true,
        "expected": quality.accuracy,
        "left out": plain,
        "error": abs(quality.accuracy - true),
        "error of left out": abs(plain - true),
        "covered": quality.interval[0] <= true <= quality.interval[1],
        "width": quality.interval[1] - quality.interval[0],
        "covered by Wilson of left out": low <= true <= high,
        "planted": len(wrong),
        "flagged": len(flagged),
        "found": len(wrong & flagged),
        "flagged without": len(quality.suspicious),
    }


def main() -> None:
    args = task_arguments(__doc__, queries=15, wrong=(0.05, "share of labels made wrong"))
    rows = []
    for row, tasks in each_set(args):
        rng = Random(args.seed)
        found = [of_task(task, args.wrong, rng) for task in tasks]
        sums = {key: sum(values[key] for values in found) for key in found[0]}
        planted, flagged = sums.pop("planted"), sums.pop("flagged")
        hits, without = sums.pop("found"), sums.pop("flagged without")
        row |= {key: round(100 * value / len(found), 1) for key, value in sums.items()}
        if planted:
            row["mislabelled"] = {
                "planted": planted,
                "flagged": flagged,
                "found": hits,
                "precision": round(100 * hits / max(flagged, 1), 1),
                "recall": round(100 * hits / planted, 1),
                "flagged without any, a task": round(without / len(found), 2),
            }
        rows.append(row)
    emit("leave_one_out", vars(args), rows)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    main()
