"""The learners, one file each, by the names that `--learner` takes."""

from __future__ import annotations

from fewshot_lite.learners.base import Learner, TaskClassifier
from fewshot_lite.learners.simple_cnaps import SimpleCnaps

LEARNERS: dict[str, type[SimpleCnaps]] = {SimpleCnaps.name: SimpleCnaps}

__all__ = ["LEARNERS", "Learner", "SimpleCnaps", "TaskClassifier"]
