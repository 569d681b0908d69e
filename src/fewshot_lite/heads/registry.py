"""Heads by name, for files that say which they hold."""

from __future__ import annotations

from typing import Any

from fewshot_lite.heads.adapted import AdaptedHead
from fewshot_lite.heads.generated import GeneratedLinearHead
from fewshot_lite.heads.mahalanobis import MahalanobisHead
from fewshot_lite.heads.mean import MeanHead, Member
from fewshot_lite.heads.prototypes import PrototypeHead
from fewshot_lite.heads.ridge import RidgeHead

AnyHead = MahalanobisHead | PrototypeHead | GeneratedLinearHead | RidgeHead | MeanHead | AdaptedHead


def describe_head(head: AnyHead) -> dict[str, Any]:
    """A JSON-able description that `make_head` takes."""
    if isinstance(head, PrototypeHead):
        return {"name": "prototypes", "metric": head.metric}
    if isinstance(head, GeneratedLinearHead):
        return {"name": "generated-linear", "feature_dim": head.feature_dim}
    if isinstance(head, AdaptedHead):
        classes, feature_dim = head.weight.shape
        return {"name": "adapted", "classes": classes, "feature_dim": feature_dim}
    if isinstance(head, RidgeHead):
        return {"name": "linear", "root": head.root}
    if isinstance(head, MeanHead):
        return {"name": "mean", "heads": [describe_head(member) for member in head.members]}
    return {"name": "mahalanobis", "root": head.root}


def make_head(description: dict[str, Any]) -> AnyHead:
    """A head of this description, with its weights still to be loaded.

    Raises:
        ValueError: no such head.
    """
    if description.get("name") == "prototypes":
        return PrototypeHead(description["metric"])
    if description.get("name") == "mahalanobis":
        return MahalanobisHead(root=bool(description["root"]))
    if description.get("name") == "linear":
        return RidgeHead(root=bool(description["root"]))
    if description.get("name") == "mean":
        members = [make_head(member) for member in description["heads"]]
        wrong = [member for member in members if not isinstance(member, Member)]
        if wrong or not members:
            raise ValueError("no heads that could be averaged")
        return MeanHead([member for member in members if isinstance(member, Member)])
    if description.get("name") == "generated-linear":
        return GeneratedLinearHead(int(description["feature_dim"]))
    if description.get("name") == "adapted":
        return AdaptedHead(int(description["classes"]), int(description["feature_dim"]))
    raise ValueError(f"no head {description.get('name')!r}")
