"""Leaving images out in closed form gives what fitting to the others gives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fewshot_lite.heads.generated import GeneratedLinearHead
from fewshot_lite.heads.leave_one_out import left_out_logits
from fewshot_lite.heads.mahalanobis import MahalanobisHead
from fewshot_lite.heads.mean import MeanHead
from fewshot_lite.heads.prototypes import PrototypeHead
from fewshot_lite.heads.registry import AnyHead
from fewshot_lite.heads.ridge import RidgeHead

SHOTS = {
    "balanced": [4, 4, 4],
    "unbalanced": [1, 2, 7, 3, 3],
    "two images each": [2, 2, 2],
    "two and one": [2, 1],
    "one class": [3],
}
SUPPORTS = pytest.mark.parametrize("shots", SHOTS.values(), ids=SHOTS.keys())
#: Features per support image: where N is less than, equal to and more than the width d.
WIDTHS = pytest.mark.parametrize("width", [3.0, 1.0, 0.3], ids=["N<d", "N=d", "N>d"])


def support_set(shots: list[int], width: float) -> tuple[Tensor, Tensor]:
    """Features (N, d), not centred at 0, and labels (N,) in no order."""
    torch.manual_seed(0)
    labels = torch.arange(len(shots)).repeat_interleave(torch.tensor(shots))
    labels = labels[torch.randperm(len(labels))]
    d = max(2, int(width * len(labels)))
    centres = 2 * torch.randn(len(shots), d, dtype=torch.float64) + 3
    return centres[labels] + torch.randn(len(labels), d, dtype=torch.float64), labels


def refitted(head: AnyHead, features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Logits of every image by a head that was fitted to the others."""
    rows = []
    for n in range(len(labels)):
        others = torch.arange(len(labels)) != n
        if not bool((labels[others] == labels[n]).any()):
            rows.append(features.new_full((1, classes), torch.nan))
            continue
        statistics = head.fit(features[others], labels[others], classes)
        rows.append(head.logits(statistics, features[n : n + 1]))
    return torch.cat(rows).detach()


@SUPPORTS
@WIDTHS
@pytest.mark.parametrize("root", [False, True], ids=["plain", "root"])
@pytest.mark.parametrize("beta", [1.0, 0.01])
def test_mahalanobis(shots: list[int], width: float, root: bool, beta: float) -> None:
    features, labels = support_set(shots, width)
    head = MahalanobisHead(beta, temperature=0.3, root=root).double()
    expected = refitted(head, features, labels, len(shots))
    found = left_out_logits(head, features, labels, len(shots))
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8, equal_nan=True)


@SUPPORTS
@pytest.mark.parametrize(
    "head",
    [PrototypeHead("euclidean"), PrototypeHead("cosine"), GeneratedLinearHead(6)],
    ids=["euclidean", "cosine", "generated"],
)
def test_heads_of_class_means(shots: list[int], head: AnyHead) -> None:
    features, labels = support_set(shots, 6.001 / sum(shots))
    head = head.double()
    expected = refitted(head, features[:, :6], labels, len(shots))
    found = left_out_logits(head, features[:, :6], labels, len(shots))
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8, equal_nan=True)


@SUPPORTS
def test_a_mean_of_heads_of_which_one_has_no_closed_form(shots: list[int]) -> None:
    features, labels = support_set(shots, 2.0)
    head = MeanHead([MahalanobisHead(), RidgeHead(), PrototypeHead("cosine")]).double()
    expected = refitted(head, features, labels, len(shots))
    found = left_out_logits(head, features, labels, len(shots))
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8, equal_nan=True)


def test_a_head_of_many_images_is_fitted_without_each_of_them_once() -> None:
    features, labels = support_set([1, 2, 93, 5], 0.05)

    class Recorder:
        """A head whose logits tell how many images of each class it was fitted to."""

        def fit(self, features: Tensor, labels: Tensor, classes: int) -> dict[str, Tensor]:
            return {"shots": torch.bincount(labels, minlength=classes), "seen": features}

        def logits(self, statistics: dict[str, Tensor], features: Tensor) -> Tensor:
            assert not bool((features[:, None] == statistics["seen"]).all(2).any())
            return statistics["shots"].double().expand(len(features), 4)

    found = left_out_logits(Recorder(), features, labels, 4)  # type: ignore[arg-type]
    assert torch.equal(found.isnan().any(1), labels == 0)
    shots = torch.tensor([1.0, 2, 93, 5], dtype=torch.float64)
    missing = shots - found[labels > 0]
    assert bool((missing[:, 0] == 0).all())
    assert bool((missing[torch.arange(len(missing)), labels[labels > 0]] >= 1).all())
    assert float(missing.max()) <= 10  # a tenth of the largest class


def test_large_features_and_few_precise_bits() -> None:
    features, labels = support_set([3, 4, 5], 2.0)
    head = MahalanobisHead(1.0, temperature=0.3)
    exact = left_out_logits(head.double(), 100 * features, labels, 3)
    found = left_out_logits(head.float(), 100 * features.float(), labels, 3)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact.float(), rtol=1e-3, atol=1e-3)


def test_a_class_without_images_is_refused() -> None:
    features, labels = support_set([3, 3], 2.0)
    with pytest.raises(ValueError, match="needs a support image"):
        left_out_logits(MahalanobisHead(), features, labels, 3)
