"""Settings of meta-training that conflict with each other; this does not import torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fewshot_lite.training.meta_config import MetaTrainConfig

#: Learners that adapt by gradient steps.
BY_GRADIENT = ("maml", "fomaml", "imaml")


def conflicts(config: MetaTrainConfig) -> Iterator[str]:
    """Yield a message for each conflict between settings that are valid on their own."""
    if config.sampling != "uniform" and config.gradient != "lite":
        yield (
            f"--sampling {config.sampling}: must be left out with --gradient {config.gradient}; "
            "only lite draws by what an image does to the loss."
        )
    if config.h is None and config.gradient == "small-task":
        yield (
            "--h all: must be a number with --gradient small-task, the size of the tasks; "
            "--gradient full trains on whole ones."
        )
    if config.min_way > config.max_way:
        yield f"--max-way {config.max_way}: must be at least --min-way {config.min_way}."
    if config.max_support < config.max_way:
        yield (
            f"--max-support {config.max_support}: must be at least --max-way {config.max_way}, "
            "one image per class."
        )
    if config.shot is not None and config.shot * config.max_way > config.max_support:
        yield (
            f"--shot {config.shot}: {config.max_way} classes make {config.shot * config.max_way} "
            f"support images, more than --max-support {config.max_support}."
        )
    if config.shot is not None and config.max_shot != type(config).max_shot:
        yield f"--max-shot {config.max_shot}: must be left out with --shot, which says how many."
    if config.instances and not config.augment:
        yield "--no-augment: must be left out with --instances, whose tasks are made of views."
    if config.warmup >= 1 and config.warmup > config.tasks:
        yield f"--warmup {config.warmup}: must be at most --tasks {config.tasks}."
    if config.patience and not config.validate_every:
        yield (
            f"--patience {config.patience}: must be left out without --validate-every, whose "
            "results it waits for."
        )


def gradient_conflicts(config: MetaTrainConfig) -> Iterator[str]:
    """Yield a message for each conflict of the gradient learners' settings."""
    if config.inner_head == "learned" and config.min_way != config.max_way:
        yield (
            f"--inner-head learned: serves one way, but --min-way is {config.min_way} and "
            f"--max-way {config.max_way}. Make them equal, or use --inner-head means."
        )
    if config.vectorise and (config.shot is None or config.min_way != config.max_way):
        yield "--vectorise: needs tasks of one shape. Give --shot, and --min-way as --max-way."
    if config.vectorise and (config.gradient != "lite" or config.inner_solver == "hessian-free"):
        yield (
            "--vectorise: must be left out with --gradient full or small-task and with "
            "--inner-solver hessian-free."
        )
    if config.learner not in BY_GRADIENT:
        return
    if config.gradient == "full" and config.learner == "fomaml":
        yield "--gradient full: must be left out with fomaml; it would be maml."
    if config.gradient == "full" and config.inner_solver == "hessian-free":
        yield (
            "--gradient full: must be left out with --inner-solver hessian-free, whose line "
            "search has no derivative."
        )
    subset = config.h not in (40, None) and config.learner != "maml" and config.gradient == "lite"
    for conflict, setting, reason in (
        (config.precision == "bfloat16", "--precision bfloat16", "it needs float32"),
        (config.compile, "--compile", "compiled kernels have no second derivatives"),
        (config.sampling != "uniform", f"--sampling {config.sampling}", "it samples uniformly"),
        (subset, f"--h {config.h}", "of part of the images its gradient would be biased"),
    ):
        if conflict:
            yield f"{setting}: must be left out with --learner {config.learner}; {reason}."
