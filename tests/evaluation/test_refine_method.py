"""`refine:CHECKPOINT` is a checkpoint refined from its one-pass solution."""

from __future__ import annotations

from pathlib import Path

import torch

from fewshot_lite.evaluation.names import parse_models
from fewshot_lite.evaluation.opening import Session, open_models
from fewshot_lite.heads.registry import NAMED_HEADS
from fewshot_lite.learners import Frozen
from fewshot_lite.maml.refined import RefinedLearner
from fewshot_lite.networks.backbone import Backbone
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.personal.one_pass import adapt_in_one_pass
from photos import SIZE


def test_it_answers_as_adapt_refines(tmp_path: Path) -> None:
    learner = Frozen(Backbone("conv4", SIZE, seed=1).eval(), head=NAMED_HEADS["mahalanobis-root"]())
    path = tmp_path / "base.safetensors"
    MetaModel(learner.requires_grad_(False), SIZE).save(path)
    names = parse_models([f"refine:{path}"])
    (opened,) = open_models(names, Session(device="cpu", precision="float32"))
    support, queries = (torch.randint(0, 256, (6, 3, SIZE, SIZE), dtype=torch.uint8) for _ in "sq")
    labels = torch.arange(3).repeat_interleave(2)
    got = opened.method.adapt(support, labels, 3)(queries)
    one_pass = adapt_in_one_pass(learner, support, labels, 3)
    given = one_pass.classifier, one_pass.maps, one_pass.labels, 3
    expected = RefinedLearner(learner).refine(*given).logits(queries)
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3)
    assert opened.description["baseline"] == "refine"
