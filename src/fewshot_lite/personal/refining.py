"""Decide by cross-validation over the support photos whether, and with how many steps, to refine.

The photos are dealt out over four folds (`cross_adaptation.deal`). For each fold the one-pass
solution is refined on the other photos, and the photos of the fold are classified by the heads of
`adapt`, fitted to the features before and after several numbers of steps. The number with the
smallest mean loss is chosen, each class weighing the same, with a temperature fitted to each. It is
kept if it classifies more of the photos right than one pass, or as many with a smaller loss. The
FiLM parameters of the one-pass solution are those of all photos, as in leave-one-out of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

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
from fewshot_lite.personal.folds_at_once import at_once
from fewshot_lite.personal.novelty import NoveltyDetector
from fewshot_lite.personal.one_pass import OnePass

#: Logits (m, K) and novelty scores (m,) of m photos.
_Answers: TypeAlias = tuple[Tensor, Tensor]
#: Steps if nothing can be left out to choose their number by: with one photo of each class.
FEW_STEPS = 10


@dataclass(frozen=True)
class Trial:
    """The outcome of cross-validation of refinement."""

    steps: int
    """The chosen number of steps; 0 keeps the one-pass solution."""
    crossed: CrossAdaptation | None
    """Logits and novelty scores of the left-out photos after these steps; None for 0 steps."""
    losses: dict[int, float]
    """Mean loss on left-out photos after each number of steps that was tried."""
    accuracies: dict[int, float]
    """Accuracy on left-out photos after each of them, every class weighing the same."""

    def record(self) -> dict[str, Any]:
        """Return the JSON-able entry of a personal model's provenance."""
        return {
            "steps": self.steps,
            "left_out_accuracy": {str(k): round(v, 4) for k, v in self.accuracies.items()},
            "left_out_loss": {str(k): round(v, 4) for k, v in self.losses.items()},
        }


def refine_support(
    learner: RefinedLearner, start: OnePass, *, always: bool, on_step: OnDone | None = None
) -> Adapted:
    """Refine a support set's one-pass solution, if that helps.

    Args:
        learner: its settings hold the most steps that may be taken.
        start: the one-pass solution of its base, with the default head.
        always: refine even if one pass classifies left-out photos better, or all of them right.
        on_step: called with (steps taken, steps in all): first with 0 steps, then over all folds,
            and again on all photos. A FewshotError that it raises keeps the one-pass solution.

    Returns:
        The refined or the one-pass solution; "refined" in its record says why.
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
    """Cross-validate one pass and refinement from there.

    Args:
        learner: its settings hold the most steps that may be taken.
        start: the one-pass solution of its base, with the default head and the maps of
            `RefinedLearner.upper_maps`.
        always: choose a number of steps above 0 even if one pass seems better.
        on_step: called with (steps taken, steps in all), over all folds.

    Raises:
        FewshotError: the steps diverged.
    """
    folds = _folds(start)
    if not folds:  # nothing can be left out
        return Trial(min(FEW_STEPS, learner.settings.steps) if always else 0, None, {}, {})
    given = start.labels[start.as_is], start.classes, start.groups[start.as_is]
    found = {0: _joined(start, folds, [fold.in_one_pass() for fold in folds])}
    if always or _accuracy(found[0].logits, *given) < 1 - 1e-9:
        found |= _after_steps(learner, start, folds, on_step)
    losses = {number: _loss(left_out.logits, *given) for number, left_out in found.items()}
    accuracies = {number: _accuracy(left_out.logits, *given) for number, left_out in found.items()}
    best = min((number for number in found if number), key=losses.__getitem__, default=0)
    better = (accuracies[best], -losses[best]) > (accuracies[0], -losses[0])
    steps = best if better or always else 0
    return Trial(steps, found[steps] if steps else None, losses, accuracies)


class _Fold:
    """Photos that are left out, with all of their views, and one pass without them."""

    def __init__(self, start: OnePass, out: Tensor) -> None:
        self.start = start
        self.out = out
        """int64 (m,), rows of the photos as they are."""
        self.kept = start.kept(~torch.isin(start.groups, start.groups[out]))

    def answers(self, support: Tensor, features: Tensor) -> _Answers:
        """Return logits and novelty scores of the photos left out, with the default head."""
        kept, head = self.kept, untempered(self.start.choice)
        as_is = support[kept.as_is], kept.labels[kept.as_is]
        logits = head.logits(head.fit(support, kept.labels, kept.classes), features).float()
        return logits, NoveltyDetector(*as_is, kept.classes).strangeness(features)

    def in_one_pass(self) -> _Answers:
        """Return the answers before any step."""
        features = self.start.classifier.support_features[self.out]
        return self.answers(self.kept.classifier.support_features, features)

    def after_steps(
        self, learner: RefinedLearner, looks: Sequence[int], on_step: OnDone
    ) -> dict[int, _Answers]:
        """Refine on the other photos, and return the answers after the steps of `looks`."""
        found: dict[int, _Answers] = {}

        def look(number: int, adapted: TaskClassifier) -> None:
            features = learner.features_of(self.start.maps[self.out], adapted)
            found[number] = self.answers(adapted.support_features, features)

        kept = self.kept
        given = kept.classifier, kept.maps, kept.labels, kept.classes, kept.groups
        learner.refine(*given, on_step=on_step, looks=looks, look=look)
        return found


def _folds(start: OnePass) -> list[_Fold]:
    """Deal the photos out; return none if nothing can be left out."""
    first = start.as_is.nonzero().flatten()
    place = deal(start.labels[first], start.classes, start.groups[first])
    numbers = [number for number in place.unique().tolist() if number >= 0]
    return [_Fold(start, first[place == number]) for number in numbers]


def _after_steps(
    learner: RefinedLearner, start: OnePass, folds: Sequence[_Fold], on_step: OnDone | None
) -> dict[int, CrossAdaptation]:
    """Return what is found of photos left out, by number of steps."""
    most = learner.settings.steps
    looks = [most]  # FiLM overfits little in its few steps, and a look takes a pass of many stages
    if learner.settings.moves == "weights":
        looks = sorted({n for n in (5, 10, 20) if n < most} | {most})
    runs = [partial(fold.after_steps, learner.copy(), looks) for fold in folds]
    answers = at_once(runs, most, on_step)
    return {number: _joined(start, folds, [of[number] for of in answers]) for number in looks}


def _joined(start: OnePass, folds: Sequence[_Fold], answers: Sequence[_Answers]) -> CrossAdaptation:
    """Put the answers of all folds together."""
    first = start.as_is.nonzero().flatten()
    found = CrossAdaptation.unknown(len(first), start.classes, first.device)
    for fold, (logits, strangeness) in zip(folds, answers, strict=True):
        rows = torch.isin(first, fold.out)
        found.logits[rows] = logits
        found.strangeness[rows] = strangeness
    return found


def _loss(logits: Tensor, labels: Tensor, classes: int, groups: Tensor) -> float:
    """Return the mean cross-entropy of left-out photos, at the temperature that fits it best."""
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
