"""Select the few answers that a report shows out of any number, in constant memory."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest

from fewshot_lite.personal.prediction import Prediction

#: Photos shown in each section, failed files listed, and reasons counted apart.
SHOWN, MOST_FAILED, _MOST_REASONS = 24, 200, 50
#: Answers kept of each class, so that the most certain ones are of many classes.
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
        """Return the predictions, the best first."""
        return [item[2] for item in sorted(self._heap, key=lambda item: item[:2], reverse=True)]


@dataclass
class Selection:
    """Counts of all answers, and the few that are kept."""

    class_names: Sequence[str]
    files: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    """Photos of each class."""
    unknown: int = 0
    failed: int = 0
    failures: list[Prediction] = field(default_factory=list)
    """The first files that failed."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Failed files by reason; reasons after the first 50 are counted together."""

    def __post_init__(self) -> None:
        self._unsure = Best(SHOWN)
        self._sure = {name: Best(_OF_A_CLASS) for name in self.class_names}
        self._most_novel, self._least_novel = Best(SHOWN // 2), Best(SHOWN // 2)

    def add(self, prediction: Prediction) -> None:
        """Count an answer, and keep it if it belongs to those shown."""
        self.files += 1
        if prediction.problem is not None:
            self.failed += 1
            if len(self.failures) < MOST_FAILED:
                self.failures.append(prediction)
            known = prediction.problem in self.reasons or len(self.reasons) < _MOST_REASONS
            self.reasons[prediction.problem if known else "other reasons"] += 1
            return
        score = prediction.strangeness or 0.0
        if prediction.unknown:
            self.unknown += 1
            self._most_novel.add(score, prediction)
            self._least_novel.add(-score, prediction)
        elif prediction.labels:
            label, probability = prediction.labels[0]
            self.counts[label] += 1
            self._unsure.add(-probability, prediction)
            self._sure[label].add(probability, prediction)

    @property
    def unsure(self) -> list[Prediction]:
        """The least certain answers, the least certain first."""
        return self._unsure.ranked()

    @property
    def sure(self) -> list[Prediction]:
        """The most certain answers of each class in turn, without those in `unsure`."""
        taken = {id(prediction) for prediction in self.unsure}
        ranked = [best.ranked() for best in self._sure.values()]
        in_turn = chain.from_iterable(zip_longest(*ranked))
        return [p for p in in_turn if p is not None and id(p) not in taken][:SHOWN]

    @property
    def unknowns(self) -> list[Prediction]:
        """Unknown photos: those just above the threshold, then the most novel."""
        shown = [*self._least_novel.ranked(), *reversed(self._most_novel.ranked())]
        return list({id(prediction): prediction for prediction in shown}.values())
