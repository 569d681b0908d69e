"""Decide by cross-validation over the support photos whether, and with how many steps, to refine.

The photos are dealt out over four folds (`cross_adaptation.deal`). For each fold the one-pass
solution is refined on the other photos, and the photos of the fold are classified by the heads of
`adapt`, fitted to the features before and after several numbers of steps. The number with the
smallest mean loss is chosen, each class weighing the same, with a temperature fitted to each. The
FiLM parameters of the one-pass solution are those of all photos, as in leave-one-out of a head.

The refined solution is the mean of the folds' parameters, so that no steps on all photos are
needed; folds have one start, and a mean of solutions around it is as good as one of them or better
(Wortsman et al. 2022, "Model soups").
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
from fewshot_lite.networks.film import NormParameters
from fewshot_lite.personal.cross_adaptation import Adapted, CrossAdaptation, deal
from fewshot_lite.personal.folds_at_once import at_once
from fewshot_lite.personal.novelty import NoveltyDetector
from fewshot_lite.personal.one_pass import OnePass

#: Steps if nothing can be left out to choose their number by: with one photo of each class.
FEW_STEPS = 10


@dataclass(frozen=True)
class Trial:
    """The outcome of cross-validation of refinement."""

    steps: int
    """The chosen number of steps; 0 keeps the one-pass solution."""
    crossed: CrossAdaptation | None
    """Logits and novelty scores of the left-out photos after these steps; None for 0 steps."""
    parameters: NormParameters | None
    """The mean of the folds' parameters after these steps; None for 0 steps, or without folds."""
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
        always: refine even if one pass classifies left-out photos better.
        on_step: called with (steps taken, steps in all): first with 0 steps, then over all folds.
            A FewshotError that it raises keeps the one-pass solution.

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
        given = start.classifier, upper.maps, start.labels, start.classes
        if trial.parameters is not None:
            classifier = learner.with_parameters(trial.parameters, *given)
        else:  # without folds
            few = learner.with_steps(trial.steps)
            classifier = few.refine(*given, start.groups, on_step=on_step)
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
    found, means = _answers(learner, start, on_step)
    if not found:  # nothing can be left out
        return Trial(min(FEW_STEPS, learner.settings.steps) if always else 0, None, None, {}, {})
    given = start.labels[start.as_is], start.classes, start.groups[start.as_is]
    losses = {number: _loss(left_out.logits, *given) for number, left_out in found.items()}
    accuracies = {number: _accuracy(left_out.logits, *given) for number, left_out in found.items()}
    best = min((number for number in found if number), key=losses.__getitem__)
    if not always and (losses[best] >= losses[0] or accuracies[best] < accuracies[0]):
        return Trial(0, None, None, losses, accuracies)
    return Trial(best, found[best], means[best], losses, accuracies)


def _answers(
    learner: RefinedLearner, start: OnePass, on_step: OnDone | None
) -> tuple[dict[int, CrossAdaptation], dict[int, NormParameters]]:
    """Return by number of steps left-out outputs and mean parameters; empty without folds."""
    first = start.as_is.nonzero().flatten()
    place = deal(start.labels[first], start.classes, start.groups[first])
    folds = [fold for fold in place.unique().tolist() if fold >= 0]
    if not folds:
        return {}, {}
    most = learner.settings.steps
    looks = [most]  # FiLM overfits little in its few steps, and a look takes a pass of many stages
    if learner.settings.moves == "weights":
        looks = sorted({n for n in (5, 10, 20) if n < most} | {most})

    def answer(fold: int, count: OnDone) -> dict[int, LeftOut]:
        out = first[place == fold]
        return _looks_of_fold(learner.copy(), start, out, looks, count)

    told = at_once(answer, folds, most, on_step)
    found = {
        number: CrossAdaptation.unknown(len(first), start.classes, first.device)
        for number in (0, *looks)
    }
    for fold, of_fold in zip(folds, told, strict=True):
        for number, seen in of_fold.items():
            found[number].logits[place == fold] = seen.logits
            found[number].strangeness[place == fold] = seen.strangeness
    means = {number: _mean([of_fold[number].parameters for of_fold in told]) for number in looks}
    return found, means


def _mean(parameters: Sequence[NormParameters]) -> NormParameters:
    return {name: torch.stack([p[name] for p in parameters]).mean(0) for name in parameters[0]}


@dataclass(frozen=True)
class LeftOut:
    """A model that is refined without a fold, after some steps."""

    logits: Tensor
    """(m, K), of the fold's photos."""
    strangeness: Tensor
    """(m,), their novelty scores."""
    parameters: NormParameters


def _looks_of_fold(
    learner: RefinedLearner,
    start: OnePass,
    out: Tensor,
    looks: Sequence[int],
    on_step: OnDone,
) -> dict[int, LeftOut]:
    """Return what a fold looks like after 0 steps and those of `looks`.

    Args:
        out: int64 (m,), rows of the fold's photos as they are; all of their views are left out.
    """
    kept = start.kept(~torch.isin(start.groups, start.groups[out]))
    head, given = untempered(start.choice), (kept.labels, kept.classes)
    found: dict[int, LeftOut] = {}

    def look(number: int, adapted: TaskClassifier, features: Tensor | None = None) -> None:
        if features is None:
            features = learner.features_of(start.maps[out], adapted)
        support = adapted.support_features
        logits = head.logits(head.fit(support, *given), features).float()
        novelty = NoveltyDetector(support[kept.as_is], kept.labels[kept.as_is], kept.classes)
        found[number] = LeftOut(logits, novelty.strangeness(features), adapted.parameters)

    look(0, kept.classifier, start.classifier.support_features[out])
    learner.refine(
        kept.classifier, kept.maps, *given, kept.groups, on_step=on_step, looks=looks, look=look
    )
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
