"""The meta-gradient of a task for learners that adapt by gradient steps.

  0. `stage_inputs`  outputs of the stages below all adaptable and learned ones, once an image.
  1. `start`         features of the support set under θ, without a graph -> φ⁰ = (θ, head).
  2. `solve`         the learner's inner loop: φ⁰ -> φ*.
  3. `_test`         L_test, the mean loss over queries, and g = ∂L_test/∂φ*.
  4. `pull_back`     the learner's own: g -> ∂L_test/∂φ⁰.
  5. `_through_head` for a head from class means: ∂L_test/∂head⁰ -> v_n = ∂L_test/∂f_n -> θ.

The inner gradient is a mean over support images, as are the products with its Hessian: all go
through the network in micro-batches, at constant memory. In steps 4 (MAML) and 5 H images drawn at
random, independently for each product, estimate the mean over all without bias: the gradient is a
product of factors that are each linear in such a mean. The inverse in iMAML is not linear, and a
random subset would bias it: it uses all images. So do learners whose images are coupled by the
support set's statistics (`support_norm`): there is no mean over images to estimate.
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
    """Gradients by the names of the learner's parameters."""
    loss: Tensor
    """Mean cross-entropy of the queries, ()."""
    accuracy: Tensor
    """Accuracy on the queries, ()."""
    negative_curvature: Tensor
    """int64 (): how many solutions stopped at negative curvature."""


def meta_gradient(
    learner: GradientLearner,
    task: Task,
    generator: torch.Generator | None = None,
    *,
    h: int | None = None,
    micro_batch: int = 64,
) -> MetaGradient:
    """Return the gradient of L_test(φ*(θ)) with respect to all learned parameters.

    Args:
        learner: the learner; its `.grad`s are not changed.
        task: support and queries, on the learner's device.
        generator: CPU generator to draw subsets from, needed with `h`.
        h: H, images that estimate each mean of steps 4 and 5 that can be estimated without bias;
            None for all.
        micro_batch: images in a pass; does not change the result.
    """
    learner.head.check_way(task.classes)
    prepared = _with_stage_inputs(learner, task, micro_batch)
    return _from_stage_inputs(learner, prepared, generator, h, micro_batch)


def _from_stage_inputs(
    learner: GradientLearner,
    task: Task,
    generator: torch.Generator | None,
    h: int | None,
    micro_batch: int,
) -> MetaGradient:
    """Run steps 1 to 5 on a task of `GradientLearner.stage_inputs`."""
    number, support = len(task.support), task.support

    def draw() -> Chosen | None:
        if h is None or generator is None or learner.coupled:
            return None
        return sampling.uniform(number, h, generator)

    with torch.no_grad():
        learned = learner.learned()
        size = number if learner.coupled else micro_batch
        features = support.new_zeros(number, learner.backbone.feature_dim)
        if learner.head.way is None:  # a learned head does not use them
            features = Passes(size).map(lambda x: learner.features_from(learned, x), support)
        start = learner.start(learned, features, task.support_labels, task.classes)
        objective = learner.objective(support, task.support_labels, micro_batch)
        path: list[Params] = []
        end = learner.solve(objective, start, path if learner.needs_path else None)
        test = _test(learner, task, micro_batch)
        gradient, loss = test.gradient(end, tuple(end))
        accuracy = _accuracy(test, end)
        pulled, negative = learner.pull_back(Solved(objective, path, end, gradient, draw))
        gradients = _through_head(learner, learned, features, task, pulled, draw(), size)
    return MetaGradient(gradients, loss, accuracy, negative)


def _through_head(
    learner: GradientLearner,
    learned: Params,
    features: Tensor,
    task: Task,
    pulled: Params,
    chosen: Chosen | None,
    size: int,
) -> Params:
    """Run step 5: from ∂L_test/∂φ⁰ to the gradients of the learned parameters."""
    learned_head = {k: v for k, v in learned.items() if k.startswith("head.")}
    gradients = {k: v for k, v in pulled.items() if not k.startswith("head.")}

    def head(parameters: Params, features: Tensor) -> Params:
        start = learner.start(parameters, features, task.support_labels, task.classes)
        return {k: v for k, v in start.items() if k.startswith("head.")}

    pull = vjp(head, learned_head, features)[1]
    head_gradients, v = pull({k: w for k, w in pulled.items() if k.startswith("head.")})
    if learner.head.way is None:
        x, backbone = task.support, {k: w for k, w in learned.items() if k.startswith("backbone.")}
        if chosen is not None:
            indices = chosen.indices.to(v.device)
            x, v = x[indices], v[indices] * chosen.weights.to(v)[:, None]
        for images, v_images in zip(x.split(size), v.split(size), strict=True):
            pull = vjp(lambda w, x=images: learner.features_from(w, x), backbone)[1]
            gradients = add(gradients, pull(v_images)[0])
    gradients |= head_gradients
    return gradients


def unrolled_gradient(learner: GradientLearner, task: Task) -> MetaGradient:
    """Return the meta-gradient by differentiating through the whole inner loop in one graph.

    Its memory grows with the steps. For MAML it is the same gradient as `meta_gradient`; for iMAML
    it is that of the point which the inner loop really reached.
    """
    learner.head.check_way(task.classes)
    number = max(len(task.support), len(task.query))
    task = _with_stage_inputs(learner, task, number)
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


def gradient_step(learner: GradientLearner, meta: MetaGradient, *, scale: float = 1.0) -> LiteStep:
    """Add a meta-gradient to the `.grad`s of the learned parameters."""
    for name, parameter in learner.named_parameters():
        if parameter.requires_grad and name in meta.gradients:
            gradient = scale * meta.gradients[name]
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
    return LiteStep(float(meta.loss), float(meta.accuracy), int(meta.negative_curvature))


def check_subset(learner: GradientLearner, h: int | None, default: int | None) -> None:
    """Refuse to draw images where a subset would be biased.

    Args:
        learner: the learner.
        h: H; None for all.
        default: the default of H, which is ignored.

    Raises:
        UsageError: the learner's images are coupled.
    """
    if learner.coupled and h not in (None, default):
        raise UsageError(
            f"--h {h}: must be left out with --statistics support, where images are normalised by "
            "one another: all of them are back-propagated together."
        )


def vectorised_gradients(learner: GradientLearner, tasks: Sequence[Task]) -> list[MetaGradient]:
    """Return `meta_gradient` of each task, computed in one vmap if all have one shape."""
    shapes = {(task.support.shape, task.query.shape, task.classes) for task in tasks}
    if len(shapes) != 1:  # a photo could not be read, and there was no other to replace it
        return [meta_gradient(learner, task) for task in tasks]
    first = tasks[0]
    size = max(len(first.support), len(first.query))

    def of_task(support: Tensor, labels: Tensor, query: Tensor, targets: Tensor) -> Any:
        task = Task(support, labels, query, targets, first.classes)
        result = _from_stage_inputs(learner, task, None, None, size)
        return result.gradients, result.loss, result.accuracy, result.negative_curvature

    prepared = [_with_stage_inputs(learner, task, size) for task in tasks]
    gradients, *figures = vmap(of_task)(
        torch.stack([task.support for task in prepared]),
        torch.stack([task.support_labels for task in prepared]),
        torch.stack([task.query for task in prepared]),
        torch.stack([task.query_labels for task in prepared]),
    )
    return [
        MetaGradient({k: v[row] for k, v in gradients.items()}, *(value[row] for value in figures))
        for row in range(len(tasks))
    ]


@torch.no_grad()
def _with_stage_inputs(learner: GradientLearner, task: Task, size: int) -> Task:
    """Replace the images of a task by their `GradientLearner.stage_inputs`."""
    support, query = (learner.stage_inputs(x, size) for x in (task.support, task.query))
    return replace(task, support=support, query=query)


def _test(learner: GradientLearner, task: Task, micro_batch: int) -> Objective:
    """Return L_test as a function of φ."""

    def logits(params: Mapping[str, Tensor], x: Tensor) -> Tensor:
        return learner.query_logits(params, task.support, x)

    size = None if learner.coupled else micro_batch
    return Objective(logits, task.query, task.query_labels, size)


def _accuracy(test: Objective, params: Params) -> Tensor:
    size = test.micro_batch or len(test.labels)
    logits = Passes(size).map(lambda x: test.logits(params, x), test.inputs)
    return (logits.argmax(1) == test.labels).float().mean()
