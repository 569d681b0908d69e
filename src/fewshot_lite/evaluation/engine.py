"""Scoring of models on tasks, for validation in meta-training, comparisons and pattern searches.

`score_pixels` scores one model on one task: it adapts, classifies the queries and measures the
cost. `run` scores all models of a comparison on all tasks of a protocol that are not in the log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from fewshot_lite.core.progress import OnDone
from fewshot_lite.core.ranks import Ranks
from fewshot_lite.evaluation.caches import CHUNK, FeatureCache, ImageCache, LowerMapsCache
from fewshot_lite.evaluation.cost import Cost, measure
from fewshot_lite.evaluation.log import TaskLog
from fewshot_lite.evaluation.methods import FrozenMethod, LearnerMethod, Method
from fewshot_lite.evaluation.protocols.base import EvaluationProtocol, EvaluationTask
from fewshot_lite.evaluation.scores import TaskRecord, TaskScore, judge

#: The number of tasks of each group whose cost is measured, without caches: multiply-accumulates
#: are counted in the first, which also warms up, and the others are timed.
COSTED = 4

#: Queries whose features are in memory at a time.
_STRIDE = 8 * CHUNK


def score_pixels(
    method: Method,
    support: Tensor,
    labels: Tensor,
    classes: int,
    queries: Iterable[Tensor],
    query_labels: Sequence[int],
    *,
    parts: Sequence[str] = (),
    metered: bool = False,
    compared: bool = False,
) -> TaskScore:
    """Score a model on one task from its pixels.

    Args:
        support: (N, 3, S, S) on the CPU, uint8 or float in [0, 1]; labels int64 (N,) of 0..K-1.
        classes: K.
        queries: chunks of query images like the support's, one at a time in memory.
        query_labels: the labels of all Q queries.
        parts: see `judge`; for `metered` and `compared` see `measure`.
    """
    logits, cost = measure(
        method, support, labels, classes, queries, metered=metered, compared=compared
    )
    return judge(logits, query_labels, parts, cost)


def run(
    methods: Sequence[Method],
    protocol: EvaluationProtocol,
    log: TaskLog,
    images: ImageCache,
    *,
    on_done: OnDone = lambda done, total: None,
    stop: Callable[[], bool] = lambda: False,
    ranks: Ranks | None = None,
) -> bool:
    """Score methods on the tasks of a protocol that the log does not hold yet.

    Args:
        methods: all get exactly the same tasks; their order does not matter.
        log: the scores are added to it.
        images: decoded images, kept between tasks.
        on_done: called with (tasks done, tasks in all).
        stop: asked after each task; True ends the run.
        ranks: processes that share the tasks; the log is the first one's, and any can stop.

    Returns:
        Whether all tasks are done.
    """
    runner = _Runner(methods, images)
    ranks = ranks or Ranks()
    log.records |= ranks.everyone(log.records)[0]
    begun = 0  # tasks begun by any rank
    mine: TaskRecord | None = None
    for number in range(len(protocol)):
        if number in log.records:
            runner.skip(log.records[number].group)
        else:
            task = protocol.task(number)
            if begun % ranks.size == ranks.rank:
                mine = runner.run(number, task)
            else:
                runner.skip(task.group)
            begun += 1
        last = number + 1 == len(protocol)
        if not last and begun % ranks.size:
            continue  # until each rank has a task
        records = ranks.everyone(mine)
        mine = None
        for record in records:
            if record is not None:
                log.add(record)
        on_done(number + 1, len(protocol))
        if not last and any(ranks.everyone(stop())):
            return False
    return True


class _Runner:
    def __init__(self, methods: Sequence[Method], images: ImageCache) -> None:
        self._methods = methods
        self._images = images
        self._features = FeatureCache(images)
        self._lower_maps = LowerMapsCache()
        self._seen: Counter[str] = Counter()  # tasks of each group so far

    def skip(self, group: str) -> None:
        self._seen[group] += 1

    def run(self, number: int, task: EvaluationTask) -> TaskRecord:
        position = self._seen[task.group]
        self._seen[task.group] += 1
        return TaskRecord(
            number=number,
            group=task.group,
            way=len(task.class_names),
            support=len(task.support),
            queries=len(task.query),
            scores={m.name: self._score(m, task, position) for m in self._methods},
        )

    def _score(self, method: Method, task: EvaluationTask, position: int) -> TaskScore:
        if not isinstance(method, FrozenMethod):
            if position >= COSTED and isinstance(method, LearnerMethod):
                with self._lower_maps.used_by(method.learner):
                    return self._in_full(method, task, position)
            return self._in_full(method, task, position)
        cost: Cost | None = None
        if position < COSTED:
            cost = self._in_full(method, task, position, at_most=CHUNK).cost
        return judge(self._cached(method, task), task.query_labels, task.query_parts, cost)

    def _in_full(
        self, method: Method, task: EvaluationTask, position: int, at_most: int | None = None
    ) -> TaskScore:
        """Score a method from the pixels, on all queries or the first `at_most`."""
        size = method.image_size
        return score_pixels(
            method,
            self._images.images(task.support, size),
            torch.tensor(task.support_labels),
            len(task.class_names),
            self._images.chunks(task.query[:at_most], size),
            task.query_labels[:at_most],
            parts=task.query_parts[:at_most],
            metered=position == 0,
            compared=0 < position < COSTED,
        )

    def _cached(self, method: FrozenMethod, task: EvaluationTask) -> Tensor:
        """Return logits (Q, K) from cached features."""
        device = method.device
        features = self._features.features(method, task.support)
        labels = torch.tensor(task.support_labels, device=device)
        classify = method.fit(features, labels, len(task.class_names))
        logits = [
            classify(self._features.features(method, task.query[start : start + _STRIDE])).cpu()
            for start in range(0, len(task.query), _STRIDE)
        ]
        return torch.cat(logits)
