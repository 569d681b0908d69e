"""LITE: the gradient of a task with a large support set, in the memory of one micro-batch.

Bronskill et al., "Memory Efficient Meta-Learning with Large Images", NeurIPS 2021: forward the
whole support set, back-propagate a random subset, keep the gradient unbiased.

For support images x_1..x_N, z = mean_n e(x_n; φ), θ = g(z), f_n = b(x_n; θ, ψ), F = (f_1..f_N):

  0. `task_of_maps`         run the layers below all that is adapted or learned once per image; from
                            here on x_n is their output. (Of most learners x_n is the image itself.)
  1. `forward_support`      no graph: all e(x_n) -> z -> θ -> F. Keep z, θ and F as leaves.
  2. `backward_queries`     L, the mean loss over queries: v_n = ∂L/∂f_n, ∂L/∂θ, ψ.grad.
  3. `backward_support`     for a subset H with inclusion probabilities π_n, recompute f_n with a
                            graph and back-propagate Σ_{n∈H} v_nᵀ f_n / π_n into θ and ψ.
  4. `backward_set_encoder` ∂L/∂θ -> g -> u = ∂L/∂z; for an independent subset H', back-propagate
                            Σ_{m∈H'} uᵀ e(x_m) / (N π'_m) into φ.

The loss depends on the support images through f_n and e(x_m) only, each of which depends on its own
image, so every step is linear in what is sampled given what is not, and the expectation is the
exact gradient. (A balanced sample has corrections of mean zero added, see `sampling.balance`.) This
needs two departures from the published code: each sum is scaled at its own node, by 1/π, rather
than the gradient as a whole or not at all; and the subsets are independent, as ∂L/∂θ of step 3
multiplies ∂e/∂φ of step 4. With every image back-propagated (`h=None`) the gradient is exact, at
the same memory.

Images of a task must not be coupled inside e or b: no batch statistics (learners stay in evaluation
mode). Dropout and stochastic depth are off for the same reason: the second pass over an image must
repeat the first.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot_lite.core.config import Sampling
from fewshot_lite.learners.base import Learner, lower_maps_of, task_embedding
from fewshot_lite.learners.task import Task
from fewshot_lite.lite import sampling
from fewshot_lite.lite.sampling import Chosen
from fewshot_lite.networks.film import NormParameters
from fewshot_lite.networks.micro_batches import Cast, Passes


@dataclass(frozen=True)
class LiteStep:
    """The result of a step, apart from the gradients."""

    loss: float
    """Mean cross-entropy of the queries."""
    accuracy: float
    """Share of the queries classified correctly."""
    negative_curvature: int = 0
    """Number of iMAML solutions that stopped at negative curvature."""


@dataclass(frozen=True)
class SupportPass:
    """Step 1's leaves, and θ as a function of z for step 4."""

    z: Tensor | None  # (Z,), leaf
    generated: NormParameters  # g(z), with its graph to z, g and the backbone's norm layers
    theta: NormParameters  # the same values as leaves
    features: Tensor  # F, (N, d), leaf


def lite_step(
    learner: Learner,
    task: Task,
    generator: torch.Generator,
    *,
    h: int | None = 40,
    sampler: Sampling = "uniform",
    micro_batch: int = 64,
    penalty_weight: float = 0.001,
    scale: float = 1.0,
    cast: Cast = contextlib.nullcontext,
) -> LiteStep:
    """Add an unbiased estimate of a task's gradient to the `.grad` of the learner's parameters.

    Args:
        learner: only its `.grad`s are changed.
        task: support and query set, on the learner's device.
        generator: CPU generator that the subsets are drawn from.
        h: H, the number of support images back-propagated; None for all, the exact gradient.
        sampler: "uniform" without replacement (the paper's), "informed", π_n ∝ ‖v_n‖, or
            "balanced", informed with a correction for the sample's error of Σ v_n.
        micro_batch: images per pass; does not change the result.
        penalty_weight: weight of the learner's penalty.
        scale: factor on the whole gradient; 1/T for a step of T tasks.
        cast: factory of the context of networks, e.g. autocast. Heads run in float32 or better.

    Returns:
        Loss and accuracy on the queries. If the loss is not finite, the step stopped half-way and
        the `.grad`s must be discarded. They may overflow even if the loss is finite: check both.

    Raises:
        ValueError: a part of the learner is in training mode, `task.check` rejects the task, or H
            or the micro-batch is less than 1.
    """
    learner.check_evaluation_mode()
    task.check()
    if micro_batch < 1 or (h is not None and h < 1):
        raise ValueError(f"h={h}, micro_batch={micro_batch}: must be at least 1 (h: or None)")
    passes = Passes(micro_batch, cast)
    number = len(task.support)
    task = task_of_maps(learner, task, passes)
    forward = forward_support(learner, task, passes)
    loss, accuracy = backward_queries(learner, task, forward, scale, passes)
    v = forward.features.grad
    if v is None or not torch.isfinite(loss):
        return LiteStep(float(loss), accuracy)
    chosen = _choose(v, task.support_labels, h, sampler, generator)
    backward_support(learner, task, forward, v, chosen, passes)
    # u is the same for all images, so the second subset is drawn uniformly.
    chosen = sampling.uniform(number, number if h is None else h, generator)
    backward_set_encoder(learner, task, forward, chosen, passes)
    penalty = scale * penalty_weight * learner.penalty()
    if penalty.requires_grad:
        penalty.backward()
    return LiteStep(float(loss), accuracy)


@torch.no_grad()
def task_of_maps(learner: Learner, task: Task, passes: Passes) -> Task:
    """Step 0: replace the task's images by `Learner.lower_maps` of them."""
    support, query = (lower_maps_of(learner, x, passes) for x in (task.support, task.query))
    return replace(task, support=support, query=query)


def forward_support(learner: Learner, task: Task, passes: Passes) -> SupportPass:
    """Step 1: compute z (Z,), θ and F (N, d) without a graph over images; keep that of z -> θ."""
    z = None
    if learner.has_set_encoder:
        with torch.no_grad():
            z = task_embedding(learner, task.support, passes)
        z.requires_grad_()
    generated = learner.norm_parameters(z)
    theta = {name: value.detach().requires_grad_() for name, value in generated.items()}
    with torch.no_grad():
        features = passes.map(lambda x: learner.features(x, theta), task.support)
    return SupportPass(z, generated, theta, features.requires_grad_())


def backward_queries(
    learner: Learner, task: Task, forward: SupportPass, scale: float, passes: Passes
) -> tuple[Tensor, float]:
    """Step 2: back-propagate the queries' loss into F, θ, ψ and the head; return loss and accuracy.

    The head's statistics are computed once and detached as leaves, so that the graph of a
    micro-batch ends at them.
    """
    statistics = learner.head.fit(forward.features, task.support_labels, task.classes)
    leaves = {
        name: value.detach().requires_grad_() if value.requires_grad else value
        for name, value in statistics.items()
    }
    losses: list[Tensor] = []
    correct = torch.zeros((), device=task.query.device)
    for images, labels in passes.split(task.query, task.query_labels):
        with passes.cast():
            features = learner.features(images, forward.theta)
        logits = learner.head.logits(leaves, features)  # (B, K)
        loss = F.cross_entropy(logits, labels, reduction="sum") / len(task.query)
        (scale * loss).backward()
        losses.append(loss.detach())
        correct += (logits.argmax(1) == labels).sum()
    pairs = [(statistics[n], leaf.grad) for n, leaf in leaves.items() if leaf.grad is not None]
    torch.autograd.backward([s for s, _ in pairs], [g for _, g in pairs])
    return torch.stack(losses).sum(), float(correct) / len(task.query)


def backward_support(
    learner: Learner,
    task: Task,
    forward: SupportPass,
    v: Tensor,
    chosen: Chosen,
    passes: Passes,
) -> None:
    """Step 3: back-propagate Σ_{n∈H} v_nᵀ f_n / π_n into θ and ψ; v is (N, d)."""
    sample = chosen.indices.to(v.device)
    weighted = v[sample] * chosen.weights.to(v)[:, None]  # (H, d)
    if chosen.correction is not None:
        weighted = weighted + chosen.correction.to(v)
    for indices, gradients in passes.split(sample, weighted):
        with passes.cast():
            features = learner.features(task.support[indices], forward.theta)  # (B, d)
        if not features.requires_grad:  # nothing in the backbone is adapted or learned
            return
        features.backward(gradients)


def backward_set_encoder(
    learner: Learner, task: Task, forward: SupportPass, chosen: Chosen, passes: Passes
) -> None:
    """Step 4: back-propagate ∂L/∂θ to u = ∂L/∂z, then Σ_{m∈H'} uᵀ e(x_m) / (N π'_m) into φ."""
    pairs = [
        (forward.generated[name], leaf.grad)
        for name, leaf in forward.theta.items()
        if leaf.grad is not None and forward.generated[name].requires_grad
    ]
    if pairs:
        torch.autograd.backward([t for t, _ in pairs], [g for _, g in pairs])
    if forward.z is None or forward.z.grad is None:
        return
    u = forward.z.grad  # (Z,)
    weighted = u * (chosen.weights / len(task.support)).to(u)[:, None]  # (H', Z)
    for indices, gradients in passes.split(chosen.indices.to(u.device), weighted):
        with passes.cast():
            embeddings = learner.embed(task.support[indices])  # (B, Z)
        embeddings.backward(gradients.to(embeddings.dtype))


def _choose(
    v: Tensor, labels: Tensor, h: int | None, sampler: Sampling, generator: torch.Generator
) -> Chosen:
    """Draw the support images of step 3."""
    if h is None:
        return sampling.everything(len(v))
    if sampler == "informed":
        return sampling.informed(v, labels, h, generator)
    if sampler == "balanced":
        return sampling.balanced(v, h, generator)
    return sampling.uniform(len(v), h, generator)
