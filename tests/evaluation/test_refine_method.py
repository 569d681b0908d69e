"""`refine:CHECKPOINT` is a checkpoint refined from its one-pass solution."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fewshot_lite.evaluation.engine import score_pixels
from fewshot_lite.evaluation.names import parse_models
from fewshot_lite.evaluation.opening import Session, open_models
from fewshot_lite.heads.base import SupportSet
from fewshot_lite.heads.choice import choose_head
from fewshot_lite.heads.registry import NAMED_HEADS
from fewshot_lite.learners import Frozen, ProtoNets, SimpleCnaps
from fewshot_lite.learners.base import Learner
from fewshot_lite.maml.refined import RefinedLearner
from fewshot_lite.networks.backbone import Backbone
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.personal.one_pass import adapt_in_one_pass
from photos import SIZE


def frozen() -> Learner:
    return Frozen(Backbone("conv4", SIZE, seed=1).eval(), head=NAMED_HEADS["mahalanobis-root"]())


def protonets() -> Learner:
    return ProtoNets(Backbone("resnet18", SIZE, seed=1).eval())


def film() -> Learner:
    """FiLM on the two upper stages."""
    return SimpleCnaps(Backbone("resnet18", SIZE, seed=1).eval(), film_stages=2)


@pytest.mark.slow
@pytest.mark.parametrize("make", [frozen, protonets, film])
def test_it_answers_as_adapt_refines(make: Callable[[], Learner], tmp_path: Path) -> None:
    learner = make().requires_grad_(False)
    path = tmp_path / "base.safetensors"
    model = MetaModel(learner, SIZE)
    model.save(path)
    names = parse_models([str(path), f"refine:{path}"])
    plain, refined = open_models(names, Session(device="cpu", precision="float32"))
    support, queries = (torch.randint(0, 256, (6, 3, SIZE, SIZE), dtype=torch.uint8) for _ in "sq")
    labels = torch.arange(3).repeat_interleave(2)
    got = refined.method.adapt(support, labels, 3)(queries)
    one_pass = adapt_in_one_pass(learner, support, labels, 3)
    own, given = RefinedLearner(learner, model.refinement()), (one_pass.labels, 3)
    maps = own.upper_maps(one_pass.classifier, one_pass.maps)
    task = own.refine(one_pass.classifier, maps, *given, one_pass.groups)
    features = task.support_features
    head = choose_head(
        "default", learner.head, SupportSet(features, *given, one_pass.groups, one_pass.as_is)
    ).head
    expected = head.logits(head.fit(features, *given), task.features(queries))
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3)
    assert refined.description["baseline"] == "refine"
    asked = support, labels, 3, [queries], labels.tolist()
    macs = []
    for one in (plain, refined):
        cost = score_pixels(one.method, *asked, metered=True).cost
        assert cost is not None
        assert cost.adapt_ms is not None
        assert cost.adapt_macs is not None
        macs.append(cost.adapt_macs)
    assert macs[1] > 2 * macs[0] > 0
