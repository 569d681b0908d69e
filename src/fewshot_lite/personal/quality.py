"""Estimate the accuracy of a personal model from its own photos, by leave-one-out.

A photo is left out of the head alone: the set encoder saw every photo when it modulated the
backbone, and photos of one session are alike. So the estimate is for more photos like these. Where
gradient steps adapted the network to the labels, leaving a photo out of the head is not enough:
there photos are left out of the whole adaptation, a quarter at a time (`cross_adaptation`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from fewshot_lite.core.intervals import wilson_interval
from fewshot_lite.heads.calibration import scaled_cross_entropies
from fewshot_lite.heads.groups import even_weights, group_sizes, groups_per_class
from fewshot_lite.heads.in_numpy import Array, as_array
from fewshot_lite.heads.leave_one_out import first_rows
from fewshot_lite.personal.with_photos import WithPhotos, check_personal

#: Folds of `cross_adaptation`: more would cost more, fewer would leave less to adapt to.
FOLDS = 4
#: A photo left out meets a class of m - 1 photos, a new photo one of m: errors fall by about this
#: share over m, the more so as the other classes keep theirs. Fitted to six data sets without FiLM,
#: 2 to 20 shots. Where classes cannot be told apart at all, errors do not fall.
_GAIN = 0.6
#: Left-out photos are in one another's support sets, so they count for fewer; fitted likewise.
_INDEPENDENT = 0.6
#: With fewer effective photos (`_effective`) the accuracy is hardly more than a guess; a class with
#: one photo, which cannot be left out, makes the whole uncertain.
_ENOUGH = 6
#: Classes of fewer photos are listed where another has three times as many.
_FEW = 5
#: The prior probability that a label is wrong, and the posterior from which it is suspicious.
_WRONG_BEFORE, _WRONG_AFTER = 0.05, 0.25


@dataclass(frozen=True)
class Confusion:
    """Two classes whose photos were taken for each other."""

    classes: tuple[str, str]
    mistaken: int
    """Photos of either that were taken for the other."""
    photos: int
    """Photos of both that could be left out."""


@dataclass(frozen=True)
class FewPhotos:
    """A class with few photos beside one with many."""

    name: str
    photos: int
    right: int
    """Photos named right when left out; 0 for a class's only photo, which cannot be."""


@dataclass(frozen=True)
class Suspicion:
    """A photo that may have the wrong label."""

    index: int
    """Its index in the support set."""
    photo: str | None
    """Its name, if the model has names."""
    label: str
    looks_like: str
    probability: float
    """The probability that the label is wrong, if one label in twenty is."""


@dataclass(frozen=True)
class Quality:
    """The leave-one-out estimate of a model's quality."""

    accuracy: float | None
    """Expected share of new photos named right, the mean over classes; None if no class has two
    photos."""
    interval: tuple[float, float] | None
    """95 % interval of `accuracy`."""
    right: int
    """Photos named right when left out, ..."""
    photos: int
    """... of this number: those of classes with at least two."""
    alone: tuple[str, ...]
    """Classes with one photo, or one clip, which cannot be left out."""
    confused: tuple[Confusion, ...]
    """Pairs of classes with confusions, the most confused first."""
    suspicious: tuple[Suspicion, ...]
    """Photos that look mislabelled, the most suspicious first."""
    class_names: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    """The confusion matrix: K rows of true classes, K columns of predicted ones."""
    clips: int = 0
    """Clips among the photos; each was left out with all of its frames."""
    left_out: int = 0
    """Photos and clips that were left out, each on its own."""
    of_clips: float | None = None
    """Expected share of new clips named right by all of their frames, if there are clips."""
    anew: bool = False
    """Whether photos were left out of the whole adaptation, a quarter of them at a time."""
    enough: bool = True
    """Whether there are enough photos for the accuracy to be more than a guess."""
    few: tuple[FewPhotos, ...] = ()
    """Classes with few photos beside one with many, the fewest first."""


def assess(personal: WithPhotos) -> Quality:
    """Estimate the quality of a model by leave-one-out.

    The accuracy is that of the photos left out, corrected for the one photo fewer (`_GAIN`), which
    costs 5 points at five photos a class. Classes weigh the same, so that a class of many photos
    does not hide another that is never found. The interval is Wilson's for 0.6 times the photos of
    a balanced set of this certainty. Measured in docs/benchmarks.md.

    A clip is left out as a whole and counts as one photo, each of its frames in part
    (`heads.groups`); docs/benchmarks.md has figures of it.

    Raises:
        InputError: no personal model, or one without its photos, as an export.
    """
    check_personal(personal)
    names, labels = personal.class_names, personal.contents.labels
    anew = personal.adapted_by_gradient
    logits = as_array(personal.leave_one_out_logits()).astype(np.float64)
    known: Array = np.logical_not(np.isnan(logits).any(1))
    groups = personal.contents.together
    shots = groups_per_class(labels, len(names), groups)
    answers = np.nan_to_num(logits, nan=0.0).argmax(1)
    right = (answers == labels) & known
    confusion = np.zeros((len(names), len(names)), np.int64)
    np.add.at(confusion, (labels[known], answers[known]), 1)
    even = logits if anew else _evened(personal, logits)
    of_group, first = _group_means(logits, groups), np.zeros(len(labels), bool)
    first[first_rows(groups)[1]] = True
    clips = int((first & known & (group_sizes(groups) > 1)).sum())
    accuracy = interval = of_clips = None
    if known.any():
        targets = labels[known], groups[known], shots
        accuracy = _expected(even[known], *targets, anew=anew)
        clip_logits = _group_means(even, groups)[known]
        of_clips = _expected(clip_logits, *targets, anew=anew) if clips else None
        count = _INDEPENDENT * _effective(shots[shots > 1])
        interval = wilson_interval(accuracy * count, count)
    return Quality(
        accuracy=accuracy,
        interval=interval,
        right=int(right.sum()),
        photos=int(known.sum()),
        enough=accuracy is not None and _effective(shots) >= _ENOUGH,
        alone=tuple(name for name, n in zip(names, shots.tolist(), strict=True) if n == 1),
        few=_few(shots, (of_group.argmax(1) == labels) & known & first, labels, names),
        confused=_confused(confusion, names),
        suspicious=_suspicious(personal, of_group, labels, known & first),
        clips=clips,
        left_out=int((first & known).sum()),
        of_clips=of_clips,
        class_names=names,
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        anew=anew,
    )


def _evened(personal: WithPhotos, logits: Array) -> Array:
    """Halve what a photo's class gains in leave-one-out logits (N, K) by having one photo fewer.

    Without the photo its class gains more by its count (`heads.calibrated`), at the cost of photos
    of other classes; but those are judged with the photo in. So beside forty photos two may both be
    named right, and the forty as well, where new photos of one class or the other are not. Half is
    a compromise chosen on four data sets: `benchmarks/accuracy/unbalanced.py` compares the expected
    accuracy with the true one.
    """
    labels, views = personal.contents.labels, personal.contents.features.shape[1]
    counts = views * np.bincount(labels)[labels]
    left = counts - views * group_sizes(personal.contents.together)
    gain, even = personal.array_head.count_gain, logits.copy()
    even[np.arange(len(labels)), labels] += (gain(counts) - gain(left.clip(1))) / 2
    return even


def _expected(logits: Array, labels: Array, groups: Array, shots: Array, *, anew: bool) -> float:
    """Return the expected accuracy, from leave-one-out logits (N, K)."""
    wrong = (logits.argmax(1) != labels) * _still_wrong(shots[labels], anew=anew)
    weights = even_weights(labels, len(shots), groups)
    return min(1.0, float(1 - (weights * wrong).sum()))


def _group_means(logits: Array, groups: Array) -> Array:
    """Replace each row of logits (N, K) by the mean over its group, the answer for a clip."""
    number = {group: place for place, group in enumerate(dict.fromkeys(groups.tolist()))}
    place = np.array([number[group] for group in groups.tolist()], np.int64)
    sums = np.zeros((len(number), logits.shape[1]))
    np.add.at(sums, place, logits)
    means: Array = sums[place] / group_sizes(groups)[:, None]
    return means


def _effective(shots: Array) -> float:
    """Return the size of a balanced set whose mean over classes is as certain."""
    return float(len(shots) ** 2 / (1 / shots).sum()) if len(shots) else 0.0


def _few(
    shots: Array, right: Array, labels: Array, names: tuple[str, ...]
) -> tuple[FewPhotos, ...]:
    hits = np.bincount(labels[right], minlength=len(names)).tolist()
    few = [
        FewPhotos(name, count, hit)
        for name, count, hit in zip(names, shots.tolist(), hits, strict=True)
        if count < _FEW and 3 * count <= int(shots.max())
    ]
    return tuple(sorted(few, key=lambda item: item.photos))


def _still_wrong(shots: Array, *, anew: bool) -> Array:
    """Return the share of errors that remains with all `shots` photos, float64; see `_GAIN`."""
    if not anew:
        return 1 - _GAIN / shots
    out = most_left_out(shots)
    share = np.ones(len(shots))
    for back in range(int(out.max())):
        share *= np.where(back < out, 1 - _GAIN / (shots - back).clip(1), 1)
    return share


def most_left_out(shots: Array) -> Array:
    """Return the most photos that a fold leaves out of classes with these shots, at least 2."""
    most: Array = (shots + FOLDS - 1) // FOLDS
    return most


def calibrated(logits: Array, labels: Array) -> Array:
    """Scale logits (N, K) by the factor that makes labels (N,) likeliest (Guo et al. 2017)."""
    if len(labels) == 0:
        return logits
    factors = np.logspace(-0.7, 1.2, 39)
    costs = scaled_cross_entropies(logits, labels, factors).sum(1)
    scaled: Array = logits * factors[costs.argmin()]
    return scaled


def _confused(confusion: Array, names: tuple[str, ...]) -> tuple[Confusion, ...]:
    photos = confusion.sum(1).tolist()
    counts = (confusion + confusion.T).tolist()
    pairs = [
        Confusion((names[a], names[b]), counts[a][b], photos[a] + photos[b])
        for a, b in combinations(range(len(names)), 2)
        if counts[a][b]
    ]
    return tuple(sorted(pairs, key=lambda pair: (-pair.mistaken, pair.photos)))


def _suspicious(
    personal: WithPhotos, logits: Array, labels: Array, known: Array
) -> tuple[Suspicion, ...]:
    """Apply Bayes' rule: a label is wrong with prior 0.05, and each other class then as likely."""
    classes = logits.shape[1]
    if classes < 2:
        return ()
    positions = np.flatnonzero(known)
    labels = labels[known]
    likely = np.exp(calibrated(logits[known] - logits[known].max(1, keepdims=True), labels))
    probabilities = likely / likely.sum(1, keepdims=True)
    rows = np.arange(len(labels))
    right = probabilities[rows, labels] * (1 - _WRONG_BEFORE)
    others = probabilities.copy()
    others[rows, labels] = 0
    wrong = others.sum(1) * _WRONG_BEFORE / (classes - 1)
    after = wrong / (wrong + right)
    suspicions = []
    for row in (-after).argsort(kind="stable").tolist():
        if after[row] < _WRONG_AFTER:
            break
        index = int(positions[row])
        suspicions.append(
            Suspicion(
                index,
                personal.photos[index] if personal.photos else None,
                personal.class_names[int(labels[row])],
                personal.class_names[int(others[row].argmax())],
                float(after[row]),
            )
        )
    return tuple(suspicions)


#: There is no advice from this expected accuracy on.
_HIGH = 0.9
#: Pairs of classes, and classes with few photos, that advice names.
_MOST_PAIRS, _MOST_NAMES = 2, 5


def advice(quality: Quality, shots: Mapping[str, int]) -> tuple[str, ...]:
    """Return sentences on what to do next, the most promising first.

    Args:
        quality: as `assess` gives it.
        shots: photos of each class.

    Returns:
        The sentences; none if the expected accuracy is high or unknown.
    """
    if quality.accuracy is None or quality.accuracy >= _HIGH:
        return ()
    lines = []
    if quality.suspicious:
        lines.append(
            f"Look at the photos that may lie in the wrong class ({len(quality.suspicious)}), and "
            "move those that do."
        )
    for pair in quality.confused[:_MOST_PAIRS]:
        if pair.mistaken > 1:
            a, b = pair.classes
            lines.append(
                f"Add photos of {a!r} and {b!r} that show what tells them apart: {pair.mistaken} "
                f"of their {pair.photos} photos were taken for the other. If they are one thing, "
                "merge them."
            )
    few = sorted((name for name in shots if shots[name] < _FEW), key=lambda name: shots[name])
    if few:
        names = ", ".join(f"{name!r} ({shots[name]})" for name in few[:_MOST_NAMES])
        more = f" and {len(few) - _MOST_NAMES} more" if len(few) > _MOST_NAMES else ""
        lines.append(f"Add photos to the classes with fewer than {_FEW}: {names}{more}.")
    elif not lines:
        lines.append("Add photos to every class, taken as those will be that are to be named.")
    return tuple(lines)
