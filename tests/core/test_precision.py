"""Precision: heads in float32 whatever networks run in; TF32 and compilation by choice."""

from __future__ import annotations

import functools
import logging
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from fewshot_lite.core import precision as arithmetic
from fewshot_lite.core.devices import autocast
from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.precision import compile_network, compiling, tf32
from fewshot_lite.learners.base import Learner
from fewshot_lite.lite.step import lite_step
from fewshot_lite.maml.registry import LEARNERS, make_learner
from fewshot_lite.networks.weights import load_backbone
from photos import SIZE
from tiny import random_task

CPU = torch.device("cpu")


def learner_of(name: str, backbone: str = "shufflenet_v2_x0_5") -> Learner:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make_learner(name, load_backbone(backbone, "none", SIZE)[0], {})


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.slow
def test_heads_and_statistics_are_float32_where_networks_run_in_bfloat16(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner, task = learner_of(name), random_task([3, 2], 4, size=SIZE, dtype=torch.float32)
    seen: list[tuple[str, torch.dtype]] = []
    inner: list[torch.dtype] = []

    def watch(what: str) -> None:
        true = getattr(learner.head, what)

        def watched(*args: Any) -> Any:
            result = true(*args)
            tensors = [*args, *(result.values() if isinstance(result, dict) else [result])]
            tensors += [value for arg in args if isinstance(arg, dict) for value in arg.values()]
            seen.extend(
                (what, t.dtype) for t in tensors if isinstance(t, Tensor) and t.is_floating_point()
            )
            assert not torch.is_autocast_enabled("cpu")
            return result

        monkeypatch.setattr(learner.head, what, watched)

    for what in ("fit", "logits"):
        watch(what)
    network = learner.backbone.network
    network.conv1.register_forward_hook(lambda module, args, result: inner.append(result.dtype))
    cast = functools.partial(autocast, CPU, "bfloat16", depthwise=True)
    step = lite_step(learner, task, torch.Generator(), h=2, micro_batch=3, cast=cast)
    assert 0 < step.loss < 100
    assert set(inner) == {torch.bfloat16}
    assert {what for what, _ in seen} == {"fit", "logits"}
    assert {dtype for _, dtype in seen} == {torch.float32}
    gradients = [p.grad for p in learner.parameters() if p.grad is not None]
    assert {gradient.dtype for gradient in gradients} == {torch.float32}


def convolutions() -> str:
    return str(torch.backends.cudnn.conv.fp32_precision)


@pytest.mark.parametrize(("wanted", "setting"), [(True, "tf32"), (False, "ieee")])
def test_tf32_is_of_convolutions_alone_and_as_long_as_it_is_wanted(
    wanted: bool, setting: str
) -> None:
    before, products = convolutions(), torch.backends.cuda.matmul.fp32_precision
    with tf32(torch.device("cuda"), wanted):
        assert convolutions() == setting
        assert torch.backends.cuda.matmul.fp32_precision == products
    assert convolutions() == before
    with tf32(CPU, None):
        assert convolutions() == before


@pytest.mark.parametrize(("wanted", "flag"), [(True, "--tf32"), (False, "--no-tf32")])
def test_tf32_is_refused_where_there_is_none(wanted: bool, flag: str) -> None:
    with pytest.raises(UsageError, match=f"^{flag}: for CUDA devices alone"), tf32(CPU, wanted):
        pass


def test_without_a_compiler_it_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: Any, **options: Any) -> Any:
        raise RuntimeError("No working C++ compiler found.\nSet CXX, or\nread the manual")

    monkeypatch.setattr(arithmetic.torch, "compile", fails)
    backbone = load_backbone("shufflenet_v2_x0_5", "none", SIZE)[0]
    with pytest.raises(UsageError, match=r"^--compile: .* cpu here \(No working C\+\+ .*found\)"):
        compile_network(backbone.network, CPU)


def test_what_the_compiler_notes_of_itself_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCH_LOGS", raising=False)
    shown: list[str] = []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", lambda record: shown.append(record.getMessage()))
    parts = logging.getLogger("torch"), logging.getLogger("torch._inductor.parts")
    monkeypatch.setattr(parts[0], "handlers", [handler])
    monkeypatch.setattr(logging.getLogger("torch._inductor"), "propagate", True)

    def speak() -> None:
        parts[1].warning("of itself")
        parts[1].error("failed")
        parts[0].warning("of torch")

    with compiling(True):
        speak()
        warnings.warn_explicit("parts", UserWarning, "x.py", 1, "torch._inductor.compile_fx")
        with pytest.raises(UserWarning, match="ours"):
            warnings.warn_explicit("ours", UserWarning, "x.py", 1, "torch_like")
    assert shown == ["failed", "of torch"]
    shown.clear()
    for asked in (False, True):
        if asked:
            monkeypatch.setenv("TORCH_LOGS", "dynamo")
        with compiling(asked):
            speak()
    assert shown == ["of itself", "failed", "of torch"] * 2


def test_where_compiling_fails_it_is_said_in_one_line() -> None:
    kind = type("InductorError", (RuntimeError,), {"__module__": "torch._inductor.exc"})
    with (
        pytest.raises(
            FewshotError, match=r"^--compile: .*\(C\+\+ compile error\)\. Leave"
        ) as caught,
        compiling(True),
    ):
        raise kind("C++ compile error\n\nCommand:\ng++ ...")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="ours"), compiling(True):
        raise ValueError("ours")


@pytest.mark.slow
def test_compiled_passes_give_the_same_gradients() -> None:
    # Small: compiling takes minutes for others on a slow core.
    plain, compiled = (learner_of("simple-cnaps", "conv4") for _ in range(2))
    try:
        compile_network(compiled.backbone.network, CPU)
    except UsageError as error:
        pytest.skip(str(error))
    assert list(compiled.state_dict()) == list(plain.state_dict())
    shapes = [4, 3], [2, 6, 3]  # other sizes need no other kernels
    with compiling(True):
        check_alike(plain, compiled, shapes)


def check_alike(plain: Learner, compiled: Learner, shapes: tuple[list[int], ...]) -> None:
    for shots in shapes:
        task = random_task(shots, 5, size=SIZE, dtype=torch.float32)
        losses = []
        for learner in (plain, compiled):
            learner.zero_grad()
            random = torch.Generator().manual_seed(1)
            losses.append(lite_step(learner, task, random, h=3, micro_batch=4).loss)
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)
        pairs = zip(plain.parameters(), compiled.parameters(), strict=True)
        flat = [
            torch.cat([g.flatten() for g in gs])
            for gs in zip(
                *((p.grad, q.grad) for p, q in pairs if p.grad is not None and q.grad is not None),
                strict=True,
            )
        ]
        assert float((flat[0] - flat[1]).norm()) < 0.01 * float(flat[0].norm())
