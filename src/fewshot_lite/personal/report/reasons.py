"""Which support photos are like a photo, and which are typical of their class.

Photos are compared by the cosine of their roots of features, whitened by what varies within
classes (within-class covariance normalisation; Hatch, Kajarekar and Stolcke 2006): so what all
photos of a class differ in counts for little, as it does for the heads. Answers are not made this
way, and the nearest photo need not be of the class that is answered: of queries of four data sets
(8 photos a class) it was in 87 %, by the plain cosine in 69 % (`docs/former-model.md`). One of that
class is always shown.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot_lite.heads.features import class_means, root_features
from fewshot_lite.personal.personal_model import PersonalModel


def likeness(personal: PersonalModel, features: Tensor) -> Tensor:
    """Cosines (B, N), within ±1, of photos with features (B, d) to the support photos."""
    support = root_features(personal.features)
    queries = root_features(features.to(support.device))
    means, _ = class_means(support, personal.labels, len(personal.class_names))
    deviations = support - means[personal.labels]
    # C = XᵀX/N + β I, β the mean variance; √β C^(-1/2) = I + V diag(shrink) Vᵀ, X = U S Vᵀ.
    _, spread, axes = torch.linalg.svd(deviations, full_matrices=False)
    variances = spread.square() / len(support)
    ridge = (variances.sum() / support.shape[1]).clamp(min=torch.finfo(support.dtype).tiny)
    shrink = (ridge / (variances + ridge)).sqrt() - 1

    def whitened(x: Tensor) -> Tensor:
        x = x - support.mean(0)
        return F.normalize(x + (x @ axes.mT * shrink) @ axes, dim=1)

    return whitened(queries) @ whitened(support).mT


def nearest_photos(
    personal: PersonalModel, features: Tensor, answers: list[int], *, most: int = 3
) -> list[list[int]]:
    """The support photos that are most like each photo, the likest first.

    Args:
        personal: the model.
        features: (B, d) of the photos.
        answers: B classes; if none of the likest photos is of a photo's class, the last one gives
            way to the likest of that class.
        most: how many to each.

    Returns:
        B lists of indices into the support photos.
    """
    found = []
    labels = personal.labels.tolist()
    for row, answer in zip(likeness(personal, features), answers, strict=True):
        order = row.argsort(descending=True, stable=True).tolist()
        chosen = order[:most]
        if all(labels[i] != answer for i in chosen):
            chosen[-1] = next(i for i in order if labels[i] == answer)
        found.append(chosen)
    return found


def typical_photos(
    personal: PersonalModel, *, most: int = 3, leave_out: frozenset[int] = frozenset()
) -> list[list[int]]:
    """For each class its photos that are most like all of it, but for some that may not count.

    Returns:
        K lists of indices into the support photos; a class of which all are left out has none.
    """
    means, _ = class_means(personal.features, personal.labels, len(personal.class_names))
    alike = likeness(personal, means).tolist()
    labels = personal.labels.tolist()
    found: list[list[int]] = []
    for k, row in enumerate(alike):
        own = [i for i, label in enumerate(labels) if label == k and i not in leave_out]
        found.append(sorted(own, key=lambda i: -row[i])[:most])
    return found


@torch.no_grad()
def left_out_answers(personal: PersonalModel) -> list[int | None]:
    """The class that the others take each support photo for; None for its class's only photo."""
    logits = personal.leave_one_out_logits()
    alone = logits.isnan().any(1).tolist()
    answers = logits.nan_to_num(0).argmax(1).tolist()
    return [None if nothing else k for nothing, k in zip(alone, answers, strict=True)]
