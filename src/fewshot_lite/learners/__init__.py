"""Learners that adapt in one forward pass, one file each; gradient learners are in `maml`."""

from fewshot_lite.learners.base import Learner, TaskClassifier
from fewshot_lite.learners.cnaps import Cnaps
from fewshot_lite.learners.frozen import Frozen
from fewshot_lite.learners.protonets import ProtoNets
from fewshot_lite.learners.simple_cnaps import SimpleCnaps

__all__ = ["Cnaps", "Frozen", "Learner", "ProtoNets", "SimpleCnaps", "TaskClassifier"]
