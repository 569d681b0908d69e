"""What `expected_growth` says of twice as many photos, beside what these are worth.

    python -m benchmarks.accuracy.growth MODEL DATA [DATA ...] --shots 5 --tasks 20

For each data set: the accuracy now and with twice as many photos, both on the same held-back
photos; the gain that was expected from the first half alone; and the mean absolute error of the
expected gain, a task at a time.
"""

from __future__ import annotations

from benchmarks.common import emit, means
from benchmarks.personal_tasks import PersonalTask, accuracy, each_set, task_arguments
from fewshot_lite.personal.editing import add_features
from fewshot_lite.personal.growth import expected_growth
from fewshot_lite.personal.quality import assess


def of_task(task: PersonalTask) -> dict[str, float]:
    personal = task.personal
    growth = expected_growth(personal, assess(personal))
    assert growth is not None
    more: list[int] = []
    for k in range(len(personal.class_names)):
        shot = int((personal.labels == k).sum())
        more += (task.truth == k).nonzero().flatten()[:shot].tolist()
    test = [i for i in range(len(task.truth)) if i not in set(more)]
    labels = [personal.class_names[k] for k in task.truth[more].tolist()]
    names = [f"more {i}" for i in more]
    doubled = add_features(personal, task.queries[more], labels, names).model
    now, then = (
        accuracy(model, task.queries[test], task.truth[test]) for model in (personal, doubled)
    )
    expected = growth.doubled - growth.now
    return {
        "now": now,
        "doubled": then,
        "gain": then - now,
        "expected gain": expected,
        "error": abs(expected - (then - now)),
        "error of no gain": abs(then - now),
    }


def main() -> None:
    args = task_arguments(__doc__, queries=25)
    rows, every = [], []
    for row, tasks in each_set(args, views=1):
        found = [of_task(task) for task in tasks]
        every += found
        rows.append(row | means(found))
    rows.append({"data": "all"} | means(every))
    emit("growth", vars(args), rows)


if __name__ == "__main__":
    main()
