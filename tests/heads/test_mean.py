"""Heads averaged: their logits' mean, and the same from a description and saved tensors."""

from __future__ import annotations

import json

import pytest
import torch

from fewshot_lite.heads.adapted import AdaptedHead
from fewshot_lite.heads.base import Head
from fewshot_lite.heads.calibrated import CalibratedHead
from fewshot_lite.heads.generated import GeneratedLinearHead
from fewshot_lite.heads.mahalanobis import MahalanobisHead
from fewshot_lite.heads.mean import MeanHead
from fewshot_lite.heads.prototypes import PrototypeHead
from fewshot_lite.heads.registry import make_head
from fewshot_lite.heads.ridge import RidgeHead

LABELS = torch.tensor([0, 0, 0, 1, 1, 2])


def test_logits_are_the_mean_of_the_heads() -> None:
    heads = MahalanobisHead(0.5, 0.2, root=True), RidgeHead(2.0, 3.0), PrototypeHead("cosine")
    features, queries = torch.rand(6, 8), torch.rand(5, 8)
    mean = MeanHead(heads)
    alone = [head.logits(head.fit(features, LABELS, 3), queries) for head in heads]
    got = mean.logits(mean.fit(features, LABELS, 3), queries)
    torch.testing.assert_close(got, sum(alone) / 3)


@pytest.mark.parametrize(
    "head",
    [
        RidgeHead(2.0, 3.0, root=False),
        MeanHead([MahalanobisHead(0.5, 0.2), RidgeHead(2.0, 3.0), PrototypeHead("cosine")], 1.3),
        CalibratedHead(GeneratedLinearHead(8, fixed_temperature=True), 2.0, 0.5),
        AdaptedHead.of(torch.rand(3, 8), torch.rand(3), 2.0),
    ],
    ids=["ridge", "mean", "calibrated", "adapted"],
)
def test_a_described_head_is_made_again(head: Head) -> None:
    again = make_head(json.loads(json.dumps(head.describe())))
    again.load_state_dict(head.state_dict())
    features, queries = torch.rand(6, 8), torch.rand(5, 8)
    expected = head.logits(head.fit(features, LABELS, 3), queries)
    assert torch.equal(again.logits(again.fit(features, LABELS, 3), queries), expected)


@pytest.mark.parametrize(
    "heads",
    [
        [],
        [{"name": "adapted", "classes": 2, "feature_dim": 4}],
        [{"name": "mean", "heads": [{"name": "ridge"}]}],
        [{"name": "calibrated", "head": {"name": "mean", "heads": [{"name": "ridge"}]}}],
    ],
    ids=["none", "adapted", "mean", "calibrated mean"],
)
def test_what_cannot_be_averaged_is_refused(heads: list[object]) -> None:
    with pytest.raises(ValueError, match="no heads that could be averaged"):
        make_head({"name": "mean", "heads": heads})


def test_a_whole_number_is_a_temperature() -> None:
    head = make_head({"name": "mean", "heads": [{"name": "ridge"}], "temperature": 10**30})
    logits = head.logits(head.fit(torch.rand(6, 8), LABELS, 3), torch.rand(2, 8))
    assert logits.abs().max() > 1e28


def test_thousands_of_heads_are_not_fitted() -> None:
    with pytest.raises(ValueError, match="5000 heads to average"):
        make_head({"name": "mean", "heads": [{"name": "ridge"}] * 5000})
