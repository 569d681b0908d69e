"""The few of any number of answers that a report shows, chosen in passing, in constant memory."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest

from fewshot_lite.personal.prediction import Prediction

#: Photos shown in each section, files listed that failed, and reasons told apart.
SHOWN, MOST_FAILED, _MOST_REASONS = 24, 200, 50
#: Answers remembered of each class, for the surest ones to be of many.
_OF_A_CLASS = 6


class Best:
    """The `most` predictions with the largest scores; of equal ones, the first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._heap: list[tuple[float, int, Prediction]] = []
        self._seen = 0

    def add(self, score: float, prediction: Prediction) -> None:
        """Keep a prediction if it is among the best so far."""
        self._seen += 1
        item = (score if math.isfinite(score) else -math.inf, -self._seen, prediction)
        if len(self._heap) < self._most:
            heapq.heappush(self._heap, item)
        elif item[:2] > self._heap[0][:2]:
            heapq.heapreplace(self._heap, item)

    def ranked(self) -> list[Prediction]:
        """The best first."""
        return [item[2] for item in sorted(self._heap, key=lambda item: item[:2], reverse=True)]


@dataclass
class Selection:
    """Counts of the answers that pass, and the few that are kept."""

    class_names: Sequence[str]
    files: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    """Photos of each class."""
    unknown: int = 0
    failed: int = 0
    failures: list[Prediction] = field(default_factory=list)
    """The first that failed."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Files that failed, by why; rare reasons beyond the first 50 are counted together."""

    def __post_init__(self) -> None:
        self._unsure = Best(SHOWN)
        self._sure = {name: Best(_OF_A_CLASS) for name in self.class_names}
        self._strange, self._nearly = Best(SHOWN // 2), Best(SHOWN // 2)

    def add(self, prediction: Prediction) -> None:
        """Take in an answer."""
        self.files += 1
        if prediction.problem is not None:
            self.failed += 1
            if len(self.failures) < MOST_FAILED:
                self.failures.append(prediction)
            known = prediction.problem in self.reasons or len(self.reasons) < _MOST_REASONS
            self.reasons[prediction.problem if known else "other reasons"] += 1
            return
        strangeness = prediction.strangeness or 0.0
        if prediction.unknown:
            self.unknown += 1
            self._strange.add(strangeness, prediction)
            self._nearly.add(-strangeness, prediction)
        elif prediction.labels:
            label, probability = prediction.labels[0]
            self.counts[label] += 1
            self._unsure.add(-probability, prediction)
            self._sure[label].add(probability, prediction)

    @property
    def unsure(self) -> list[Prediction]:
        """The least sure answers, the least sure first."""
        return self._unsure.ranked()

    @property
    def sure(self) -> list[Prediction]:
        """The surest of each class in turn, of those that are not among the least sure."""
        taken = {id(prediction) for prediction in self.unsure}
        ranked = [best.ranked() for best in self._sure.values()]
        in_turn = chain.from_iterable(zip_longest(*ranked))
        found = [p for p in in_turn if p is not None and id(p) not in taken]
        return found[:SHOWN]

    @property
    def unknowns(self) -> list[Prediction]:
        """Unknown photos: those that are nearest to being known, then the strangest."""
        found: Iterable[Prediction] = (*self._nearly.ranked(), *reversed(self._strange.ranked()))
        return list({id(prediction): prediction for prediction in found}.values())
