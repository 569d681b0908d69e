"""Out-of-distribution photos: scores compared, and what `--reject` does.

    python -m benchmarks.accuracy.novelty MODEL DATA DATA [DATA ...] --shots 5,10 --tasks 100

Novel photos are those of other classes of the same data set ("held out") and of the other data sets
("foreign"). For each score: AUROC against held-back photos of the task's own classes, and the share
of novel photos rejected where 5 % of those are lost, in percent, means over tasks. "detector" is
the one in use. Then, with its threshold at `--reject`, which is from the support alone: the shares
truly rejected.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor

from benchmarks.common import emit_rows
from benchmarks.personal_tasks import PersonalTask, score, task_arguments
from fewshot_lite.personal.personal_model import PersonalModel


def all_scores(personal: PersonalModel, features: Tensor) -> dict[str, Tensor]:
    """Every score, (B,): the larger, the more novel."""
    head, classes = personal.head, len(personal.class_names)
    logits = head.logits(head.fit(personal.features, personal.labels, classes), features)
    return {
        "detector": personal.novelty.strangeness(features),
        "maximum softmax": -logits.softmax(1).amax(1),
        "energy": -logits.logsumexp(1),
    }


def auroc(own: Tensor, novel: Tensor) -> float:
    """Chance that a novel photo has a higher score than one of the classes; ties count half."""
    above = (novel[:, None] > own).double() + 0.5 * (novel[:, None] == own).double()
    return float(above.mean())


def of_task(task: PersonalTask, reject: float) -> dict[str, float]:
    own, held_out, foreign = (
        all_scores(task.personal, x) for x in (task.queries, task.held_out, task.foreign)
    )
    found: dict[str, float] = {}
    for name in own:
        cut = own[name].double().quantile(0.95)
        for kind, novel in (("held out", held_out[name]), ("foreign", foreign[name])):
            found[f"{name}: AUROC, {kind}"] = auroc(own[name], novel)
            found[f"{name}: rejected at 5 % loss, {kind}"] = float((novel > cut).double().mean())
    threshold = task.personal.threshold(reject)
    for kind, scores in (("own", own), ("held out", held_out), ("foreign", foreign)):
        found[f"--reject, {kind}"] = float((scores["detector"] > threshold).double().mean())
    return found


def main() -> None:
    args = task_arguments(__doc__, queries=5, novel=(15, "of each of the two kinds"), reject=0.05)
    if len(args.data) < 2:
        raise SystemExit("Give two data sets or more: each one's novel photos are the others'.")
    emit_rows("novelty", args, score(args, partial(of_task, reject=args.reject)))


if __name__ == "__main__":
    main()
