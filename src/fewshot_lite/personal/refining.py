"""Whether refinement helps a support set, and how many steps: by cross-validation over its photos.

The photos are dealt out over four folds (`cross_adaptation.deal`). The one-pass solution is refined
without each, and the photos left out are named by the heads of `adapt`, fitted to the features of
the others before and after several numbers of steps. What names them best is chosen: the smallest
mean loss, each class weighing the same, with a temperature fitted to each. FiLM of the one-pass
solution is that of all photos, as where photos are left out of a head alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot_lite.core.errors import FewshotError
from fewshot_lite.core.progress import OnDone
from fewshot_lite.heads.calibrated import likeliest_factor
from fewshot_lite.heads.choice import choose_head, refitted_choice, untempered
from fewshot_lite.heads.groups import even_weights
from fewshot_lite.heads.in_numpy import as_array
from fewshot_lite.learners.base import TaskClassifier
from fewshot_lite.maml.refined import RefinedLearner
from fewshot_lite.personal.cross_adaptation import Adapted, CrossAdaptation, deal
from fewshot_lite.personal.novelty import NoveltyDetector
from fewshot_lite.personal.one_pass import OnePass

#: Steps where there is nothing to choose their number by: one photo of each class.
FEW_STEPS = 10


@dataclass(frozen=True)
class Trial:
    """The outcome of cross-validation of refinement."""

    steps: int
    """The number of steps that names photos left out best; 0 keeps the one-pass model."""
    crossed: CrossAdaptation | None
    """Logits and novelty scores of the photos left out, after that many steps; None for 0 steps."""
    losses: dict[int, float]
    """Mean loss on photos left out, after each number of steps that was looked at."""
    accuracies: dict[int, float]
    """Share of photos left out that were named right, each class weighing the same."""

    def record(self) -> dict[str, Any]:
        """JSON-able, for a personal model's provenance."""
        return {
            "steps": self.steps,
            "left_out_accuracy": {str(k): round(v, 4) for k, v in self.accuracies.items()},
            "left_out_loss": {str(k): round(v, 4) for k, v in self.losses.items()},
        }


def refine_support(
    learner: RefinedLearner, start: OnePass, *, always: bool, on_step: OnDone | None = None
) -> Adapted:
    """Refine a support set's one-pass solution, if that is worth it.

    Args:
        learner: with the most steps that may be taken.
        start: what its base made of the support set, with the default head.
        always: refine even where one pass names photos left out better.
        on_step: called with (steps taken, steps in all), with none before anything is done; then
            over all folds, and anew for all photos. A FewshotError that it raises keeps one pass.

    Returns:
        The refined solution or the one-pass one; "refined" in its record says why.
    """
    kept = Adapted(start.classifier, start.choice, start.views)
    try:
        if on_step is not None:
            on_step(0, learner.settings.steps)
        upper = replace(start, maps=learner.upper_maps(start.classifier, start.maps))
        trial = try_refinement(learner, upper, always=always, on_step=on_step)
        if not trial.steps:
            return replace(kept, record={"refined": trial.record()})
        chosen = learner.with_steps(trial.steps)
        given = upper.maps, start.labels, start.classes, start.groups
        classifier = chosen.refine(start.classifier, *given, on_step=on_step)
    except FewshotError as error:  # the steps diverged, or were interrupted
        return replace(kept, record={"refined": {"steps": 0, "note": str(error)}})
    labels, groups = start.labels[start.as_is], start.groups[start.as_is]
    crossed = trial.crossed or CrossAdaptation.unknown(len(labels), start.classes, labels.device)
    refined = replace(start, classifier=classifier)
    fitted = choose_head("default", learner.base.head, refined.support)
    choice = refitted_choice(fitted, crossed.logits, labels, groups)
    crossed = replace(crossed, logits=choice.factor * crossed.logits)
    return Adapted(classifier, choice, start.views, crossed, {"refined": trial.record()})


@torch.no_grad()
def try_refinement(
    learner: RefinedLearner, start: OnePass, *, always: bool = False, on_step: OnDone | None = None
) -> Trial:
    """Leave photos out of the head of one pass, and of refinement from there.

    Args:
        learner: with the most steps that may be taken.
        start: its base, adapted, with the default head; its maps are those that
            `RefinedLearner.upper_maps` gave.
        always: refinement is wanted even where one pass seems better.
        on_step: called with (steps taken, steps in all), over all folds.

    Raises:
        FewshotError: the steps diverged.
    """
    found = _answers(learner, start, on_step)
    if not found:  # nothing can be left out
        return Trial(min(FEW_STEPS, learner.settings.steps) if always else 0, None, {}, {})
    given = start.labels[start.as_is], start.classes, start.groups[start.as_is]
    losses = {number: _loss(left_out.logits, *given) for number, left_out in found.items()}
    accuracies = {number: _accuracy(left_out.logits, *given) for number, left_out in found.items()}
    best = min((number for number in found if number), key=losses.__getitem__)
    better = losses[best] < losses[0] and accuracies[best] >= accuracies[0]
    steps = best if better or always else 0
    return Trial(steps, found[steps] if steps else None, losses, accuracies)


def _answers(
    learner: RefinedLearner, start: OnePass, on_step: OnDone | None
) -> dict[int, CrossAdaptation]:
    """By numbers of steps, what is made of each photo by what never saw it; nothing for no fold."""
    first = start.as_is.nonzero().flatten()
    place = deal(start.labels[first], start.classes, start.groups[first])
    folds = [fold for fold in place.unique().tolist() if fold >= 0]
    most = learner.settings.steps
    looks = [most]  # FiLM overfits little in its few steps, and a look takes a pass of many stages
    if learner.settings.moves == "weights":
        looks = sorted({n for n in (5, 10, 20) if n < most} | {most})
    found = {
        number: CrossAdaptation.unknown(len(first), start.classes, first.device)
        for number in (0, *looks)
        if folds
    }
    for done, fold in enumerate(folds):
        rows = place == fold
        count = _counted(on_step, done, len(folds))
        told = _answers_of_fold(learner, start, first[rows], looks, count)
        for number, (logits, strangeness) in told.items():
            found[number].logits[rows] = logits
            found[number].strangeness[rows] = strangeness
    return found


def _counted(on_step: OnDone | None, done: int, folds: int) -> OnDone | None:
    """Make the callback that counts the steps of one fold among those of all folds."""
    if on_step is None:
        return None
    return lambda taken, of: on_step(done * of + taken, folds * of)


def _answers_of_fold(
    learner: RefinedLearner,
    start: OnePass,
    out: Tensor,
    looks: Sequence[int],
    on_step: OnDone | None,
) -> dict[int, tuple[Tensor, Tensor]]:
    """Logits (m, K) and novelty (m,) of what is left out, after 0 and the steps of `looks`.

    Args:
        out: int64 (m,), rows of the photos that are left out, with all of their views.
    """
    kept = start.kept(~torch.isin(start.groups, start.groups[out]))
    head, given = untempered(start.choice), (kept.labels, kept.classes)
    found: dict[int, tuple[Tensor, Tensor]] = {}

    def named(number: int, support: Tensor, features: Tensor) -> None:
        as_is = support[kept.as_is], kept.labels[kept.as_is]
        logits = head.logits(head.fit(support, *given), features).float()
        found[number] = logits, NoveltyDetector(*as_is, kept.classes).strangeness(features)

    def look(number: int, adapted: TaskClassifier) -> None:
        named(number, adapted.support_features, learner.features_of(start.maps[out], adapted))

    named(0, kept.classifier.support_features, start.classifier.support_features[out])
    learner.refine(
        kept.classifier, kept.maps, *given, kept.groups, on_step=on_step, looks=looks, look=look
    )
    return found


def _loss(logits: Tensor, labels: Tensor, classes: int, groups: Tensor) -> float:
    """Mean cross-entropy of photos left out, at the temperature that suits these logits best."""
    known = logits.isfinite().all(1)
    logits, labels, groups = logits[known].double(), labels[known], groups[known]
    factor = likeliest_factor(logits, labels, groups)
    losses = F.cross_entropy(factor * logits, labels, reduction="none")
    weights = even_weights(as_array(labels), classes, as_array(groups))
    return float((as_array(losses) * weights).sum())


def _accuracy(logits: Tensor, labels: Tensor, classes: int, groups: Tensor) -> float:
    known = logits.isfinite().all(1)
    right = (logits[known].argmax(1) == labels[known]).double()
    weights = even_weights(as_array(labels[known]), classes, as_array(groups[known]))
    return float((as_array(right) * weights).sum())
