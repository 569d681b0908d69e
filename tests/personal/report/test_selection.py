"""Of any number of answers a few are kept, and they are the right ones."""

from __future__ import annotations

from pathlib import Path
from random import Random

from fewshot_lite.personal.prediction import Prediction
from fewshot_lite.personal.report.selection import MOST_FAILED, SHOWN, Best, Selection

NAMES = ("a", "b", "c")


def answer(number: int, rng: Random) -> Prediction:
    path = Path(f"{number}.jpg")
    if rng.random() < 0.1:
        return Prediction(path, (), f"reason {rng.randrange(100)}")
    first = rng.choice(NAMES)
    p = rng.uniform(0.4, 1)
    labels = ((first, p), *((other, (1 - p) / 2) for other in NAMES if other != first))
    return Prediction(path, labels, None, rng.random() < 0.2, rng.uniform(0, 9))


def test_the_right_ones_are_kept_of_many() -> None:
    rng = Random(0)
    every = [answer(i, rng) for i in range(5000)]
    chosen = Selection(NAMES)
    for prediction in every:
        chosen.add(prediction)
    named = [p for p in every if p.problem is None and not p.unknown]
    unknown = [p for p in every if p.unknown]
    failed = [p for p in every if p.problem is not None]
    assert (chosen.files, chosen.unknown, chosen.failed) == (5000, len(unknown), len(failed))
    assert sum(chosen.counts.values()) == len(named)
    assert chosen.unsure == sorted(named, key=lambda p: p.labels[0][1])[:SHOWN]
    assert chosen.failures == failed[:MOST_FAILED]
    assert sum(chosen.reasons.values()) == len(failed)
    assert len(chosen.reasons) <= 51
    by_strangeness = sorted(unknown, key=lambda p: p.strangeness or 0)
    half = SHOWN // 2
    assert chosen.unknowns == by_strangeness[:half] + by_strangeness[-half:]
    sure = chosen.sure
    assert {p.labels[0][0] for p in sure[:3]} == set(NAMES)
    for label in NAMES:
        own = sorted((p for p in named if p.label == label), key=lambda p: -p.labels[0][1])
        assert [p for p in sure if p.label == label] == own[: SHOWN // 3][:6]


def test_of_few_none_is_shown_twice() -> None:
    chosen = Selection(NAMES)
    for k in range(3):
        chosen.add(Prediction(Path(f"{k}"), (("a", 0.5),), None, False, 1.0))
        chosen.add(Prediction(Path(f"u{k}"), (("a", 0.5),), None, True, float(k)))
    assert (len(chosen.unsure), chosen.sure) == (3, [])
    assert [str(p.path) for p in chosen.unknowns] == ["u0", "u1", "u2"]


def test_of_equal_scores_the_first_are_kept_and_nan_is_last() -> None:
    best = Best(2)
    for number, score in enumerate([float("nan"), 1.0, 1.0, 1.0]):
        best.add(score, Prediction(Path(str(number)), ()))
    assert [str(p.path) for p in best.ranked()] == ["1", "2"]
