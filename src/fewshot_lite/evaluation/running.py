"""The loop: each task, each model, one score; done tasks are not done again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fewshot_lite.core.ranks import Ranks
from fewshot_lite.evaluation.caches import CHUNK, FeatureCache, ImageCache
from fewshot_lite.evaluation.cost import Cost, measure
from fewshot_lite.evaluation.log import TaskLog
from fewshot_lite.evaluation.methods import FrozenMethod, Method
from fewshot_lite.evaluation.protocols.base import EvaluationProtocol, EvaluationTask
from fewshot_lite.evaluation.scores import TaskRecord, TaskScore, score_task

#: Tasks of each group that methods with cached features do in full, to be timed: the first is
#: counted (and warms up), the others are timed.
COSTED = 4

#: Queries whose features are in memory at a time: some chunks, each read while the one before it
#: goes through the backbone.
_STRIDE = 8 * CHUNK


def run(
    methods: Sequence[Method],
    protocol: EvaluationProtocol,
    log: TaskLog,
    images: ImageCache,
    *,
    tasks: dict[str, int] | None = None,
    on_done: Callable[[int, int], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
    ranks: Ranks | None = None,
) -> bool:
    """Score methods on the tasks of a protocol that the log does not hold yet.

    Args:
        methods: each is given exactly the same tasks; their order does not matter.
        log: where scores go.
        images: decoded images, kept between tasks.
        tasks: by a method's name, the tasks of each group that it takes part in (the first ones);
            all, for a method that is not named.
        on_done: called with (tasks done, tasks in all).
        stop: asked after each task; True ends the run.
        ranks: processes that share the tasks out; the first one's log and any one's `stop` hold.

    Returns:
        Whether all tasks are done.
    """
    runner = _Runner(methods, images, tasks or {})
    ranks = ranks or Ranks()
    log.records |= ranks.everyone(log.records)[0]
    begun = 0  # tasks that were begun by anyone
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
            continue  # until each has a task
        found = ranks.everyone(mine)
        mine = None
        for record in found:
            if record is not None:
                log.add(record)
        if on_done is not None:
            on_done(number + 1, len(protocol))
        if not last and any(ranks.everyone(stop())):
            return False
    return True


class _Runner:
    def __init__(
        self, methods: Sequence[Method], images: ImageCache, tasks: dict[str, int]
    ) -> None:
        self._methods = methods
        self._images = images
        self._features = FeatureCache(images)
        self._limits = tasks
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
            scores={
                method.name: self._score(method, task, position)
                for method in self._methods
                if position < self._limits.get(method.name, position + 1)
            },
        )

    def _score(self, method: Method, task: EvaluationTask, position: int) -> TaskScore:
        cost: Cost | None = None
        if isinstance(method, FrozenMethod):
            if position < COSTED:
                cost = self._in_full(method, task, position, at_most=CHUNK)[1]
            logits = self._cached(method, task)
        else:
            logits, cost = self._in_full(method, task, position)
        return score_task(logits, task.query_labels, task.query_parts, cost)

    def _in_full(
        self, method: Method, task: EvaluationTask, position: int, at_most: int | None = None
    ) -> tuple[Tensor, Cost]:
        """Adapt and classify from the pixels: logits (Q, K), or of the first `at_most` queries."""
        support = self._images.images(task.support, method.image_size)
        queries = (
            chunk for _, chunk in self._images.chunks(task.query[:at_most], method.image_size)
        )
        return measure(
            method,
            support,
            torch.tensor(task.support_labels),
            len(task.class_names),
            queries,
            metered=position == 0,
            compared=0 < position < COSTED,
        )

    def _cached(self, method: FrozenMethod, task: EvaluationTask) -> Tensor:
        """Logits (Q, K) from features that all tasks share."""
        device = method.passes.device
        features = self._features.features(method, task.support)
        labels = torch.tensor(task.support_labels, device=device)
        classify = method.fit(features, labels, len(task.class_names))
        logits = [
            classify(self._features.features(method, task.query[start : start + _STRIDE])).cpu()
            for start in range(0, len(task.query), _STRIDE)
        ]
        return torch.cat(logits)
