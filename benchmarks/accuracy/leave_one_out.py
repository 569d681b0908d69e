"""Expected accuracy from photos left out, beside the accuracy on held-back photos.

    python -m benchmarks.accuracy.leave_one_out MODEL DATA [DATA ...] --shots 5,10 --tasks 100

For each data set and number of shots: the accuracy on held-back photos, what `assess` expects, its
mean absolute error, and how often the interval holds the accuracy (that is itself of few photos:
where a data set has few, the interval cannot hold it as often), in percent, means over tasks. Then,
with a share of the labels made wrong: how many photos of all tasks are called suspicious, and how
many of those rightly; and how many are with the labels as they are. MODEL must adapt in one pass:
by gradient the network would depend on the labels.
"""

from __future__ import annotations

from random import Random

import torch

from benchmarks.common import emit, means
from benchmarks.personal_tasks import PersonalTask, accuracy, each_set, task_arguments, with_rows
from fewshot_lite.personal.personal_model import PersonalModel
from fewshot_lite.personal.quality import assess

#: What is counted over all tasks, not averaged.
_COUNTS = ("planted", "flagged", "flagged rightly", "flagged without any")


def mislabelled(
    personal: PersonalModel, share: float, rng: Random
) -> tuple[PersonalModel, set[int]]:
    """The same model with a share of labels, one at least, changed to another class's."""
    labels = personal.labels.clone()
    way = len(personal.class_names)
    wrong = rng.sample(range(len(labels)), max(1, round(share * len(labels))))
    for index in wrong:
        labels[index] = (int(labels[index]) + rng.randrange(1, way)) % way
    if int(torch.bincount(labels, minlength=way).min()) == 0:
        return mislabelled(personal, share, rng)
    # FiLM comes from the images alone, so it is what it would be.
    return with_rows(personal, personal.features, labels), set(wrong)


def of_task(task: PersonalTask, share: float, rng: Random) -> dict[str, float]:
    personal = task.personal
    quality = assess(personal)
    assert quality.accuracy is not None
    assert quality.interval is not None
    true = accuracy(personal, task.queries, task.truth)
    changed, wrong = mislabelled(personal, share, rng)
    flagged = {item.index for item in assess(changed).suspicious}
    return {
        "true": true,
        "expected": quality.accuracy,
        "error": abs(quality.accuracy - true),
        "held by the interval": quality.interval[0] <= true <= quality.interval[1],
        "planted": len(wrong),
        "flagged": len(flagged),
        "flagged rightly": len(wrong & flagged),
        "flagged without any": len(quality.suspicious),
    }


def main() -> None:
    args = task_arguments(__doc__, queries=15, wrong=(0.05, "share of labels made wrong"))
    rows = []
    for row, tasks in each_set(args):
        rng = Random(args.seed)
        found = [of_task(task, args.wrong, rng) for task in tasks]
        counts = {key: sum(task.pop(key) for task in found) for key in _COUNTS}
        rows.append(row | means(found) | counts)
    emit("leave_one_out", vars(args), rows)


if __name__ == "__main__":
    main()
