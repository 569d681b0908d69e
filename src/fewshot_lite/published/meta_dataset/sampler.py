"""Sampling of the classes of an episode, and of the number of images of each, as in Meta-Dataset.

See meta_dataset/data/sampling.py (EpisodeDescriptionSampler) and Triantafillou et al. 2020, section
3.2 and appendix A.2. Shots are drawn by `data.episodes`, which training uses too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fewshot_lite.core.errors import FewshotError
from fewshot_lite.core.random_streams import integer, shuffled
from fewshot_lite.data.episodes import uneven_shots
from fewshot_lite.published.meta_dataset.spec import DataSetSpec


@dataclass(frozen=True)
class EpisodeRules:
    """The published values (learn/gin/setups/data_config.gin)."""

    min_way: int = 5
    max_way: int = 50
    max_support: int = 500
    """The most support images of all classes together."""
    max_contribution: int = 100
    """The most that a class adds to the size of the support set. As published, this bounds the
    size, not the images of one class: a class much larger than the others can get more of them."""
    queries: int = 10
    """Query images of each class; half of the smallest class if that is less."""
    max_family: int = 392
    """The most leaves of a node of WordNet (MAX_SPANNING_LEAVES_ELIGIBLE)."""


@dataclass(frozen=True)
class Composition:
    """An episode without its images."""

    classes: tuple[int, ...]
    """Class ids."""
    shots: tuple[int, ...]
    """Support images of each."""
    queries: int
    """Query images of each."""


class CompositionSampler:
    """Draws compositions from one split of a data set.

    - plain: way uniform in 5..50 (at most the number of classes), classes uniform;
    - two-level: an alphabet uniformly, then way and classes within it likewise;
    - hierarchy: a node of WordNet uniformly among those with 5 to 392 leaves, and all its leaves,
      or 50 of them.

    Classes with one image cannot be on both sides: `too_small` of them are left out.
    """

    def __init__(self, spec: DataSetSpec, split: str, rules: EpisodeRules | None = None) -> None:
        """Find the classes that can be drawn.

        Raises:
            FewshotError: too few classes.
        """
        self.rules = rules or EpisodeRules()
        self.kind = spec.kind
        self._images = spec.images
        usable = [number for number in spec.splits[split] if spec.images[number] >= 2]
        self.too_small = len(spec.splits[split]) - len(usable)
        self.families = [tuple(usable)]
        if self.kind != "plain" and spec.families is not None:
            known = set(usable)
            self.families = [tuple(n for n in one if n in known) for one in spec.families[split]]
        most = self.rules.max_family if self.kind == "hierarchy" else len(usable)
        self.families = [one for one in self.families if self.rules.min_way <= len(one) <= most]
        if not self.families:
            raise FewshotError(
                f"{spec.folder}: its {split} split has {len(usable)} classes with 2 images or "
                f"more, too few that belong together for tasks of {self.rules.min_way}."
            )

    def sample(self, generator: torch.Generator) -> Composition:
        """Draw a composition."""
        rules = self.rules
        family = self.families[integer(0, len(self.families) - 1, generator)]
        way = most = min(rules.max_way, len(family))
        if self.kind != "hierarchy":
            way = integer(rules.min_way, most, generator)
        classes = shuffled(family, generator, way)
        images = [self._images[number] for number in classes]
        queries = min(rules.queries, min(images) // 2)
        shots = uneven_shots(
            images,
            [number - queries for number in images],
            max_support=rules.max_support,
            max_contribution=rules.max_contribution,
            generator=generator,
        )
        return Composition(tuple(classes), tuple(shots), queries)
