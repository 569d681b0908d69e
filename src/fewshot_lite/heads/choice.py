"""Which head a personal model gets: all read the same cached features, the backbone is passed once.

`fewshot-lite evaluate film-NAME` compares them. The mean of the Mahalanobis head, ridge regression
and cosines with class means was best on the validation sets: a base with a Mahalanobis head adapts
with that, and others keep their own.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TypeAlias

import torch
from torch import Tensor

from fewshot_lite.core.config import HeadName
from fewshot_lite.heads import defaults
from fewshot_lite.heads.adapted import AdaptedHead
from fewshot_lite.heads.array_head import DescribedHead
from fewshot_lite.heads.base import Head, Statistics, SupportSet
from fewshot_lite.heads.calibrated import CalibratedHead, as_array_head, likeliest_factor
from fewshot_lite.heads.choosing import Chosen, best_of, candidates
from fewshot_lite.heads.in_numpy import as_array, state_of
from fewshot_lite.heads.registry import make_head

#: A head of torch's, and how it came to be.
Choice: TypeAlias = Chosen[Head]


@torch.no_grad()
def choose_head(wanted: HeadName, own: Head, support: SupportSet) -> Choice:
    """The head for a support set; nothing in it is random.

    Args:
        wanted: a head's name; "default": what did best on the validation sets; "auto": the best in
            cross-validation on the support set, if it is clearly better than the default.
        own: the base's head; its learned constants are kept where it is of the kind wanted.
        support: the support set.

    Raises:
        ValueError: a class without images.
    """
    own, features = copy.deepcopy(own), as_array(support.features)
    default = default_head(own)
    heads = candidates(
        wanted,
        (default.name, default),
        lambda name: own if name == own.name else _made(defaults.named_head(name, features)),
    )
    arrays = {name: as_array_head(head) for name, head in heads.items()}
    best = best_of(arrays, *support.arrays(), as_array(support.queries))
    head = CalibratedHead(heads[best.name], *best.constants).to(support.features.device)
    alone = best.alone and wanted == "auto"
    return Choice(head, best.name, best.accuracies, wanted, head.temperature_factor, alone)


def adapted_choice(
    statistics: Statistics, leave_one_out: Tensor, labels: Tensor, groups: Tensor | None = None
) -> Choice:
    """The head that gradient steps adapted together with the backbone.

    Args:
        statistics: its "weight" (K, d) and "bias" (K,).
        leave_one_out: logits (N, K) of the support images by models adapted without them.
        labels: int64 (N,) of 0..K-1.
        groups: int64 (N,), what was left out together.
    """
    factor = likeliest_factor(leave_one_out, labels, groups)
    head = AdaptedHead.of(statistics["weight"], statistics["bias"], factor)
    return Choice(head, head.name, factor=factor)


def refitted_choice(
    choice: Choice, left_out: Tensor, labels: Tensor, groups: Tensor | None = None
) -> Choice:
    """A head fitted to features that know its photos, its temperature from others that do not.

    Args:
        choice: of a head with a temperature of its own, which would be too sure.
        left_out: logits (N, K) of the support images by models adapted without them, by heads that
            are `untempered`.
        labels: int64 (N,) of 0..K-1.
        groups: int64 (N,), what was left out together.
    """
    factor = likeliest_factor(left_out, labels, groups)
    return replace(choice, head=untempered(choice, factor), factor=factor)


def untempered(choice: Choice, factor: float = 1.0) -> CalibratedHead:
    """The head of a choice with another factor on its temperature than photos left out gave it."""
    head = choice.head
    assert isinstance(head, CalibratedHead)
    found = CalibratedHead(head.head, factor, float(head.count_offset), head.count_power)
    return found.to(head.factor.device)


def default_head(own: Head) -> Head:
    """The head that a base with this one adapts with, unless told otherwise."""
    if own.kind != "mahalanobis":
        return own
    return _made(defaults.default_head(own.describe(), state_of(own)))


def _made(found: DescribedHead) -> Head:
    """A head of its description."""
    head = make_head(dict(found.description))
    head.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in found.tensors.items()})
    return head
