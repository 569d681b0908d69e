"""Models that patterns are tried on: learners that adapt by gradient, refinement, fine-tuning."""

from __future__ import annotations

from dataclasses import replace

from fewshot_lite.core.errors import UsageError
from fewshot_lite.evaluation.lambda_search.options import what_to_give
from fewshot_lite.evaluation.methods import FineTunedFilm, LearnerMethod, Method, RefinedMethod
from fewshot_lite.evaluation.names import ModelName
from fewshot_lite.evaluation.opening import Session, open_models
from fewshot_lite.maml.gradient_learner import GradientLearner
from fewshot_lite.networks.stages import Staged


class Subject:
    """A model whose layers can be updated or left as they are."""

    def __init__(self, method: Method, inner_steps: int | None) -> None:
        """Take in a method as `open_models` gives it; it is changed by what is tried on it.

        Args:
            inner_steps: T; None for its own.

        Raises:
            UsageError: it has no inner loop.
        """
        self.name, self.image_size = method.name, method.image_size
        self.device = method.passes.device
        self._method = method
        self.way: int | None = None
        """Classes that its head is made for; None: any number."""
        self.head_stays = False
        """Whether every pattern must update the head, as it starts at zero."""
        self.something_adapts = True
        """Whether a pattern must update something: a head from class means classifies without."""
        self.fixed = 0
        """Stages next to the images that no pattern updates."""
        self.nested = False
        """Whether only patterns of all stages from one on are tried: the lowest sets the time."""
        if isinstance(method, RefinedMethod):
            settings = replace(method.settings, steps=inner_steps or method.settings.steps)
            method.settings = replace(settings, pattern=None)
            self.layers, self.head_stays = method.refined.layers, True
            self.fixed, self.nested = method.learner.first_stage, True
            self.inner_steps = settings.steps
        elif isinstance(method, LearnerMethod):
            learner = method.learner
            if not isinstance(learner, GradientLearner):
                raise UsageError(f"{self.name}: {learner.name} has no inner loop. {what_to_give()}")
            learner.inner_steps = inner_steps or learner.inner_steps
            learner.set_pattern(None)
            self.layers, self.way = learner.layers, learner.head.way
            self.something_adapts = self.way is not None
            self.inner_steps = learner.inner_steps
        else:
            assert isinstance(method, FineTunedFilm)
            method.settings = replace(method.settings, steps=inner_steps or method.settings.steps)
            self.layers, self.head_stays = Staged(method.backbone).layers, True
            self.inner_steps = method.settings.steps

    @property
    def full(self) -> str:
        """The pattern that updates all that can be."""
        return "0" * self.fixed + "1" * (len(self.layers) - self.fixed)

    def under(self, pattern: str) -> Method:
        """The method with this pattern, until another one is asked for."""
        if isinstance(self._method, RefinedMethod):
            self._method.settings = replace(self._method.settings, pattern=pattern)
        elif isinstance(self._method, LearnerMethod):
            learner = self._method.learner
            assert isinstance(learner, GradientLearner)
            learner.set_pattern(pattern)
        else:
            assert isinstance(self._method, FineTunedFilm)
            self._method.settings = replace(self._method.settings, pattern=pattern)
        return self._method


def open_subject(name: ModelName, inner_steps: int | None, device: str) -> Subject:
    """Load what is searched; it runs in float32.

    Raises:
        UsageError, FewshotError: as `open_models` and `Subject`.
    """
    (opened,) = open_models([name], Session(device=device, precision="float32"))
    return Subject(opened.method, inner_steps)
