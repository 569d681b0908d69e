"""What a run of meta-training leaves on disk: its state, to go on from, and the model so far."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch.optim import Optimizer

from fewshot_lite import __version__
from fewshot_lite.core.files import remove_leftovers
from fewshot_lite.core.ranks import Ranks
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.training import run as training
from fewshot_lite.training.averaging import using
from fewshot_lite.training.meta_setup import Setup
from fewshot_lite.training.meta_state import Run
from fewshot_lite.training.resuming import resume_on_all


@dataclass(frozen=True)
class Checkpoints:
    """Writes them, on the first rank alone, and reads the state again."""

    output: Path
    setup: Setup
    optimizer: Optimizer
    run: Run
    ranks: Ranks

    def settings(self) -> dict[str, Any]:
        """What must be the same when the run goes on."""
        train = self.setup.train
        found = asdict(self.run.config) | {"images": train.images, "classes": train.classes}
        del found["save_every"], found["micro_batch"]  # do not change what is learned
        return found

    def resume(self) -> str:
        """Go on from the newest state that is whole; says why it is not the newest of all.

        A run that was killed before it had one begins anew. What it left of a file that it was
        writing is removed.
        """
        state_file = training.state_path(self.output)
        if self.ranks.first:
            remove_leftovers(self.output)
        state, reason = resume_on_all(
            state_file,
            self.output,
            self.ranks,
            self.setup.learner,
            self.optimizer,
            self.settings(),
        )
        if state is not None:
            self.run.restore(state)
        return reason

    def weights_in_use(self) -> contextlib.AbstractContextManager[None]:
        """What is validated, and saved where nothing is validated: the averaged weights, if any."""
        if self.run.averaged is None:
            return contextlib.nullcontext()
        return using(self.setup.learner, self.run.averaged.tensors, self.setup.standardise)

    def save(self) -> None:
        """Write the state, then the model: the best one, if there was a validation.

        Raises:
            FewshotError: they cannot be written; what is there is whole.
        """
        if not self.ranks.first:
            return
        run, setup, best = self.run, self.setup, self.run.best
        state_file = training.state_path(self.output)
        training.save_state(
            state_file,
            setup.learner,
            self.optimizer,
            run.done,
            self.settings(),
            run.notes(),
            run.tensors(),
        )
        record = {
            "training": training.without_paths(asdict(run.config)),
            "tasks": [run.done, run.config.tasks],
            "data": {pool.name: pool.class_names for pool in setup.train.pools},
            "backbone": {k: v for k, v in setup.source.items() if k != "pretrained"},
            "pretraining": setup.source.get("pretrained", {}),
            "figures": {**run.averages.values, "validation": best.scores},
            "version": __version__,
        }
        if best.scores:
            record["best_after"] = best.task
        with using(setup.learner, best.tensors) if best.scores else self.weights_in_use():
            MetaModel(setup.learner, setup.image_size, record).save(self.output, half=True)

    def clear(self) -> None:
        """Remove the states of a run that is finished."""
        if self.ranks.first:
            training.clear(training.state_path(self.output))
