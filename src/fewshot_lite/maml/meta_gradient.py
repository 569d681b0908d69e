"""The meta-gradient of a task for learners that adapt by gradient steps.

  0. `entering`    what lies below all that adapts or is learned, once an image.
  1. `start`       features of the support set under θ, without a graph -> φ⁰ = (θ, head).
  2. `solve`       the learner's inner loop: φ⁰ -> φ*.
  3. `_test`       L_test, the mean loss over queries, and g = ∂L_test/∂φ*.
  4. `pull_back`   the learner's own: g -> ∂L_test/∂φ⁰.
  5. `_end`        a head that begins at class means: ∂L_test/∂head⁰ -> v_n = ∂L_test/∂f_n -> θ.

The inner gradient is a mean over support images, as are the products with its Hessian: all go
through the network in micro-batches, at constant memory. In steps 4 (MAML) and 5 H images drawn at
random, independently for each product, estimate the mean over all without bias: the gradient is a
product of factors that are each linear in such a mean. iMAML's inverse is not linear, and a random
subset would bias it: it looks at all images. So do learners whose images are coupled by the support
set's statistics (`support_norm`): there is no mean over images to estimate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.func import grad_and_value, vjp, vmap

from fewshot_lite.core.errors import UsageError
from fewshot_lite.learners.task import Task
from fewshot_lite.lite import sampling
from fewshot_lite.lite.sampling import Chosen
from fewshot_lite.lite.step import LiteStep
from fewshot_lite.maml.gradient_learner import GradientLearner, Solved
from fewshot_lite.maml.objective import Objective
from fewshot_lite.maml.params import Params, add
from fewshot_lite.networks.micro_batches import Passes


@dataclass(frozen=True)
class MetaGradient:
    """The meta-gradient of one task."""

    gradients: Params
    """By the names of the learner's parameters."""
    loss: Tensor
    """Mean cross-entropy of the queries, ()."""
    accuracy: Tensor
    """Share of the queries that were right, ()."""
    negative_curvature: Tensor
    """int64 (): solutions that stopped at negative curvature."""


def meta_gradient(
    learner: GradientLearner,
    task: Task,
    generator: torch.Generator | None = None,
    *,
    h: int | None = None,
    micro_batch: int = 64,
) -> MetaGradient:
    """The gradient of L_test(φ*(θ)) with respect to all that is learned.

    Args:
        learner: its `.grad`s are not touched.
        task: support and queries, on the learner's device.
        generator: CPU generator that subsets are drawn from, if there is an `h`.
        h: H, images that estimate each mean of steps 4 and 5 that can be estimated without bias;
            None for all.
        micro_batch: images in a pass; does not change the result.
    """
    learner.head.check_way(task.classes)
    return _of_prepared(learner, _prepared(learner, task, micro_batch), generator, h, micro_batch)


def _of_prepared(
    learner: GradientLearner,
    task: Task,
    generator: torch.Generator | None,
    h: int | None,
    micro_batch: int,
) -> MetaGradient:
    """Steps 1 to 5, of `GradientLearner.entering` in the place of images."""
    number, support = len(task.support), task.support

    def draw() -> Chosen | None:
        if h is None or generator is None or learner.coupled:
            return None
        return sampling.uniform(number, h, generator)

    with torch.no_grad():
        learned = learner.learned()
        size = number if learner.coupled else micro_batch
        features = support.new_zeros(number, learner.backbone.feature_dim)
        if learner.head.way is None:  # a learned head does not look at them
            features = Passes(size).map(lambda x: learner.features_from(learned, x), support)
        start = learner.start(learned, features, task.support_labels, task.classes)
        objective = learner.objective(support, task.support_labels, micro_batch)
        path: list[Params] = []
        end = learner.solve(objective, start, path if learner.needs_path else None)
        test = _test(learner, task, micro_batch)
        gradient, loss = test.gradient(end, tuple(end))
        accuracy = _accuracy(test, end)
        pulled, negative = learner.pull_back(Solved(objective, path, end, gradient, draw))
        found = _end(learner, learned, features, task, pulled, draw(), size)
    return MetaGradient(found, loss, accuracy, negative)


def _end(
    learner: GradientLearner,
    learned: Params,
    features: Tensor,
    task: Task,
    pulled: Params,
    chosen: Chosen | None,
    size: int,
) -> Params:
    """Step 5: from ∂L_test/∂φ⁰ to what φ⁰ was made from, by name."""
    own = {k: v for k, v in learned.items() if k.startswith("head.")}
    found = {k: v for k, v in pulled.items() if not k.startswith("head.")}

    def head(own: Params, features: Tensor) -> Params:
        start = learner.start(own, features, task.support_labels, task.classes)
        return {k: v for k, v in start.items() if k.startswith("head.")}

    pull = vjp(head, own, features)[1]
    of_head, v = pull({k: w for k, w in pulled.items() if k.startswith("head.")})
    if learner.head.way is None:
        x, backbone = task.support, {k: w for k, w in learned.items() if k.startswith("backbone.")}
        if chosen is not None:
            at = chosen.indices.to(v.device)
            x, v = x[at], v[at] * chosen.weights.to(v)[:, None]
        for images, gradients in zip(x.split(size), v.split(size), strict=True):
            pull = vjp(lambda w, x=images: learner.features_from(w, x), backbone)[1]
            found = add(found, pull(gradients)[0])
    found |= of_head
    return found


def unrolled_gradient(learner: GradientLearner, task: Task) -> MetaGradient:
    """As `meta_gradient`, by differentiating through the whole inner loop in one graph.

    Its memory grows with the steps. Of MAML it is the same gradient; of iMAML the gradient of what
    the inner loop really reached.
    """
    learner.head.check_way(task.classes)
    number = max(len(task.support), len(task.query))
    task = _prepared(learner, task, number)
    test = _test(learner, task, number)

    def loss(learned: Params) -> tuple[Tensor, Params]:
        features = learner.features_from(learned, task.support)
        start = learner.start(learned, features, task.support_labels, task.classes)
        end = learner.solve(learner.objective(task.support, task.support_labels, number), start)
        return test.value(end), end

    gradients, (value, end) = grad_and_value(loss, has_aux=True)(learner.learned())
    with torch.no_grad():
        accuracy = _accuracy(test, {k: v.detach() for k, v in end.items()})
    zero = torch.zeros((), dtype=torch.int64, device=value.device)
    return MetaGradient(gradients, value.detach(), accuracy, zero)


def _shape(task: Task) -> tuple[object, ...]:
    return task.support.shape, task.query.shape, task.classes


def gradient_step(learner: GradientLearner, found: MetaGradient, *, scale: float = 1.0) -> LiteStep:
    """Add a meta-gradient to the `.grad`s of what is learned."""
    for name, parameter in learner.named_parameters():
        if parameter.requires_grad and name in found.gradients:
            gradient = scale * found.gradients[name]
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
    return LiteStep(float(found.loss), float(found.accuracy), int(found.negative_curvature))


def check_subset(learner: GradientLearner, h: int | None, default: int | None) -> None:
    """Refuse a number of images to draw where none can be drawn without bias.

    Args:
        h: H; None for all.
        default: what it is if nobody asked.

    Raises:
        UsageError: the learner's images are coupled.
    """
    if learner.coupled and h not in (None, default):
        raise UsageError(
            f"--h {h}: must be left out with --statistics support, where images are normalised by "
            "one another: all of them are back-propagated together."
        )


def vectorised_gradients(learner: GradientLearner, tasks: Sequence[Task]) -> list[MetaGradient]:
    """`meta_gradient` of each task, computed all at once by vmap if they have one shape."""
    if len({_shape(task) for task in tasks}) != 1:  # a photo was lost, and no other to replace it
        return [meta_gradient(learner, task) for task in tasks]
    first = tasks[0]
    size = max(len(first.support), len(first.query))

    def one(support: Tensor, labels: Tensor, query: Tensor, targets: Tensor) -> Any:
        task = Task(support, labels, query, targets, first.classes)
        found = _of_prepared(learner, task, None, None, size)
        return found.gradients, found.loss, found.accuracy, found.negative_curvature

    ready = [_prepared(learner, task, size) for task in tasks]
    gradients, *figures = vmap(one)(
        torch.stack([task.support for task in ready]),
        torch.stack([task.support_labels for task in ready]),
        torch.stack([task.query for task in ready]),
        torch.stack([task.query_labels for task in ready]),
    )
    return [
        MetaGradient({k: v[row] for k, v in gradients.items()}, *(value[row] for value in figures))
        for row in range(len(tasks))
    ]


@torch.no_grad()
def _prepared(learner: GradientLearner, task: Task, size: int) -> Task:
    """The task with what its images are to what adapts: what lies below is computed here, once."""
    support, query = (learner.entering(x, size) for x in (task.support, task.query))
    return replace(task, support=support, query=query)


def _test(learner: GradientLearner, task: Task, micro_batch: int) -> Objective:
    """L_test as a function of φ."""

    def logits(params: Mapping[str, Tensor], x: Tensor) -> Tensor:
        return learner.query_logits(params, task.support, x)

    size = None if learner.coupled else micro_batch
    return Objective(logits, task.query, task.query_labels, size)


def _accuracy(test: Objective, params: Params) -> Tensor:
    size = test.micro_batch or len(test.labels)
    logits = Passes(size).map(lambda x: test.logits(params, x), test.inputs)
    return (logits.argmax(1) == test.labels).float().mean()
