"""The chosen pattern in a checkpoint, where `adapt` and `evaluate` use it."""

from __future__ import annotations

from pathlib import Path

from fewshot_lite.core.files import find_base
from fewshot_lite.evaluation.lambda_search.options import parse_searched
from fewshot_lite.evaluation.lambda_search.result import Search
from fewshot_lite.evaluation.names import REFINE
from fewshot_lite.maml.gradient_learner import GradientLearner
from fewshot_lite.personal.meta_model import REFINE_PATTERN, MetaModel


def store(search: Search, path: Path) -> None:
    """Write the searched checkpoint with the chosen pattern, the inner steps and a record.

    Refinement keeps the number of its steps; only which stages they move is stored.

    Args:
        search: of a checkpoint, finished.
        path: a new file or the checkpoint itself.

    Raises:
        ValueError: a search of fine-tuning, or one that was interrupted.
        FewshotError: it cannot be written.
    """
    if not search.finished:
        raise ValueError("the search was interrupted")
    name = parse_searched(search.model)
    model = MetaModel.load(find_base(name.base))
    learner = model.learner
    if name.baseline == REFINE:
        model.record[REFINE_PATTERN] = search.chosen.pattern
    elif isinstance(learner, GradientLearner):
        learner.inner_steps = search.inner_steps
        learner.set_pattern(search.chosen.pattern)
    else:
        raise ValueError(f"{search.model} has no pattern to store")
    model.record["lambda_search"] = search.record()
    model.save(path)
