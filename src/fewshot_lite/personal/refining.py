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
from fewshot_lite.heads.base import Head
from fewshot_lite.heads.calibrated import likeliest_factor
from fewshot_lite.heads.choice import Choice, choose_head, refitted_choice, untempered
from fewshot_lite.heads.groups import even_weights
from fewshot_lite.heads.in_numpy import as_array
from fewshot_lite.learners.base import TaskClassifier
from fewshot_lite.maml.refined import RefinedLearner
from fewshot_lite.personal.cross_adaptation import CrossAdaptation, deal
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


@dataclass(frozen=True)
class Refined:
    """A support set's refined solution, as a personal model takes it."""

    classifier: TaskClassifier
    choice: Choice
    crossed: CrossAdaptation
    """The answers of models adapted without each photo; logits are those of the head."""


def refine_support(
    learner: RefinedLearner,
    start: OnePass,
    classes: int,
    *,
    always: bool,
    on_step: OnDone | None = None,
) -> tuple[Refined | None, dict[str, Any]]:
    """Refine a support set's one-pass solution, if that is worth it.

    Args:
        learner: with the most steps that may be taken.
        start: what its base made of the support set.
        classes: K.
        always: refine even where one pass names photos left out better.
        on_step: called with (steps taken, steps in all), with none before anything is done; then
            over all folds, and anew for all photos. A FewshotError that it raises keeps one pass.

    Returns:
        The refined solution, or None where one pass stays; and a JSON-able record of why.
    """
    given = start.labels, classes
    try:
        if on_step is not None:
            on_step(0, learner.settings.steps)
        maps = learner.upper_maps(start.classifier, start.maps)
        trial = try_refinement(
            learner,
            start.classifier,
            maps,
            *given,
            start.groups,
            start.as_is,
            always=always,
            on_step=on_step,
        )
        if not trial.steps:
            return None, trial.record()
        settings = replace(learner.settings, steps=trial.steps)
        chosen = RefinedLearner(learner.base, settings)
        classifier = chosen.refine(start.classifier, maps, *given, start.groups, on_step=on_step)
    except FewshotError as error:  # the steps diverged, or were interrupted
        return None, {"steps": 0, "note": str(error)}
    labels, groups = start.labels[start.as_is], start.groups[start.as_is]
    crossed = trial.crossed or _nothing_left_out(labels, classes)
    fitted = choose_head(
        "default",
        learner.base.head,
        classifier.support_features,
        *given,
        start.groups,
        start.as_is,
    )
    choice = refitted_choice(fitted, crossed.logits, labels, groups)
    crossed = replace(crossed, logits=choice.factor * crossed.logits)
    return Refined(classifier, choice, crossed), trial.record()


def _nothing_left_out(photos: Tensor, classes: int) -> CrossAdaptation:
    logits = torch.full((len(photos), classes), torch.nan, device=photos.device)
    return CrossAdaptation(logits, logits[:, 0].clone())


@torch.no_grad()
def try_refinement(
    learner: RefinedLearner,
    start: TaskClassifier,
    maps: Tensor,
    labels: Tensor,
    classes: int,
    groups: Tensor,
    as_is: Tensor | None = None,
    *,
    always: bool = False,
    on_step: OnDone | None = None,
) -> Trial:
    """Leave photos out of the head of one pass, and of refinement from there.

    Args:
        learner: with the most steps that may be taken.
        start: its base, adapted to N views of the photos.
        maps: what `RefinedLearner.upper_maps` gave of them, N rows.
        labels: int64 (N,) of 0..K-1, every class present.
        classes: K.
        groups: int64 (N,), what is left out together: the views of a photo, the frames of a clip.
        as_is: bool (N,), rows that are photos as they are; None for the first of each group.
        always: refinement is wanted even where one pass seems better.
        on_step: called with (steps taken, steps in all), over all folds.

    Raises:
        FewshotError: the steps diverged.
    """
    if as_is is None:
        as_is = torch.zeros_like(labels, dtype=torch.bool)
        as_is[[int((groups == g).nonzero()[0]) for g in groups.unique()]] = True
    given = start.support_features, labels, classes, groups, as_is
    head = untempered(choose_head("default", learner.base.head, *given))
    support = _Support(start, maps, labels, classes, groups, as_is, head)
    found = support.answers(learner, on_step)
    if not found:  # nothing can be left out
        return Trial(min(FEW_STEPS, learner.settings.steps) if always else 0, None, {}, {})
    return support.judge(found, always=always)


@dataclass(frozen=True)
class _Support:
    """Rows of N views, and which of them are photos as they are (as_is)."""

    start: TaskClassifier
    maps: Tensor
    labels: Tensor
    classes: int
    groups: Tensor
    as_is: Tensor
    head: Head
    """What names photos left out, before any fit."""

    def answers(
        self, learner: RefinedLearner, on_step: OnDone | None
    ) -> dict[int, tuple[Tensor, Tensor]]:
        """By numbers of steps, logits and novelty of each photo by what never saw it."""
        first = self.as_is.nonzero().flatten()
        place = deal(self.labels[first], self.classes, self.groups[first])
        folds = [fold for fold in place.unique().tolist() if fold >= 0]
        most = learner.settings.steps
        looks = sorted({n for n in (5, 10, 20) if n < most} | {most})
        nan = torch.full((len(first), self.classes), torch.nan, device=self.labels.device)
        found = {number: (nan.clone(), nan[:, 0].clone()) for number in (0, *looks) if folds}
        for done, fold in enumerate(folds):
            rows = place == fold
            kept = ~torch.isin(self.groups, self.groups[first[rows]])
            part = _Fold(
                replace(self.start, support_features=self.start.support_features[kept]),
                self.maps[kept],
                self.labels[kept],
                self.groups[kept],
                self.as_is[kept],
                self.maps[first[rows]],
                self.start.support_features[first[rows]],
                self.head,
            )
            count = _counted(on_step, done, len(folds))
            told = part.answers(learner, self.classes, looks, count)
            for number, (logits, novelty) in told.items():
                found[number][0][rows] = logits
                found[number][1][rows] = novelty
        return found

    def judge(self, found: dict[int, tuple[Tensor, Tensor]], *, always: bool) -> Trial:
        """Which number of steps is best, 0 for one pass."""
        given = self.labels[self.as_is], self.classes, self.groups[self.as_is]
        losses = {number: _loss(logits, *given) for number, (logits, _) in found.items()}
        accuracies = {number: _accuracy(logits, *given) for number, (logits, _) in found.items()}
        best = min((number for number in found if number), key=losses.__getitem__)
        better = losses[best] < losses[0] and accuracies[best] >= accuracies[0]
        steps = best if better or always else 0
        crossed = CrossAdaptation(*found[steps]) if steps else None
        return Trial(steps, crossed, losses, accuracies)


def _counted(on_step: OnDone | None, done: int, folds: int) -> OnDone | None:
    """Make the callback that counts the steps of one fold among those of all folds."""
    if on_step is None:
        return None
    return lambda taken, of: on_step(done * of + taken, folds * of)


@dataclass(frozen=True)
class _Fold:
    """The rows that stay, (n, ...), and the photos that are left out, (m, ...)."""

    start: TaskClassifier
    maps: Tensor
    labels: Tensor
    groups: Tensor
    as_is: Tensor
    """Which rows are photos as they are, by which novelty is measured."""
    out: Tensor
    """Their maps."""
    out_features: Tensor
    """(m, d), by one pass."""
    head: Head

    def answers(
        self,
        learner: RefinedLearner,
        classes: int,
        looks: Sequence[int],
        on_step: OnDone | None,
    ) -> dict[int, tuple[Tensor, Tensor]]:
        """Logits (m, K) and novelty (m,) of what is left out, after 0 and the steps of `looks`."""
        given = self.labels, classes
        found: dict[int, tuple[Tensor, Tensor]] = {}

        def named(number: int, support: Tensor, out: Tensor) -> None:
            detector = NoveltyDetector(support[self.as_is], self.labels[self.as_is], classes)
            logits = self.head.logits(self.head.fit(support, *given), out).float()
            found[number] = logits, detector.strangeness(out)

        def look(number: int, adapted: TaskClassifier) -> None:
            named(number, adapted.support_features, learner.features_of(self.out, adapted))

        named(0, self.start.support_features, self.out_features)
        learner.refine(
            self.start, self.maps, *given, self.groups, on_step=on_step, looks=looks, look=look
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
