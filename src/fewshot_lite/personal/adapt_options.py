"""The options of adapting, with the checks that they need; the command line's flags are these."""

from __future__ import annotations

from dataclasses import dataclass

from fewshot_lite.core.config import HeadName, Refine, check_word
from fewshot_lite.core.errors import InputError, UsageError
from fewshot_lite.learners import Learner
from fewshot_lite.maml.gradient_learner import GradientLearner
from fewshot_lite.maml.refined import RefinedLearner, Refinement
from fewshot_lite.personal.views import choose_views


@dataclass(frozen=True)
class AdaptOptions:
    """How `MetaModel` adapts to a support set."""

    head: HeadName = "default"
    """The classifier on the features; "auto" chooses it by cross-validation on the photos."""
    views: int | None = None
    """Views of each photo to adapt to, 1 or 3 (`personal.views`); None takes 3, but 1 of a thousand
    photos and more, and of learners that adapt by gradient."""
    mirror: bool | None = None
    """Whether one of the views is mirrored; None leaves it out if the photos are then clearly named
    better when each is left out, as where classes are each other's mirror images."""
    refine: Refine = "off"
    """Take gradient steps from the one-pass solution (`maml.refined`): "off", "on", or "auto": if
    photos left out are named better after them."""
    refine_pattern: str | None = None
    """The stages that those steps move (`maml.patterns.stages_that_move`), or "film": FiLM alone,
    of the upper half of the stages; None: those that the base has stored, or "film"."""
    thumbnails: bool = True
    """Keep small pictures of the photos, for reports (`personal.report`)."""

    def check(self, learner: Learner, refinement: Refinement) -> None:
        """Refuse options that do not fit a learner, before photos are read.

        Args:
            learner: the base's.
            refinement: the settings with which it would be refined.

        Raises:
            UsageError: a word that is no choice, or options that do not go together.
        """
        check_word("--head", self.head, HeadName)
        check_word("--refine", self.refine, Refine)
        choose_views(self.views, self.mirror, 0)
        if not isinstance(self.refine_pattern, str | None):
            raise InputError(
                f"--refine-pattern {self.refine_pattern!r}: must be a text, e.g. 'layer3,layer4'."
            )
        if self.refine_pattern == "":
            raise UsageError("--refine-pattern is an empty word. Name stages, or leave it out.")
        if self.refine != "off":
            RefinedLearner(learner, refinement)  # says whether it can be refined
            if self.head != "default":
                raise UsageError(
                    f"--head {self.head}: must be left out with --refine, which adapts a head too."
                )
        elif self.refine_pattern is not None:
            raise UsageError(f"--refine-pattern {self.refine_pattern}: goes with --refine auto|on.")
        if isinstance(learner, GradientLearner):
            if self.head != "default":  # features adapted to their labels favour any head
                raise UsageError(
                    f"--head {self.head}: must be left out with a base that adapts by gradient "
                    "steps, which adapt its head too."
                )
            if self.views == 3 or self.mirror:
                raise UsageError(
                    "--views, --mirror: must be left out with a base that adapts by gradient steps."
                )
