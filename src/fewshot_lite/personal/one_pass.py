"""Adapt in one forward pass: views of the support images, their features and the head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fewshot_lite.core.progress import OnDone
from fewshot_lite.heads.base import SupportSet
from fewshot_lite.heads.calibrated import as_array_head
from fewshot_lite.heads.choice import Choice, choose_head
from fewshot_lite.learners.base import Learner, Run, TaskClassifier
from fewshot_lite.networks.film import NormParameters
from fewshot_lite.networks.inference import compiled
from fewshot_lite.networks.micro_batches import Passes
from fewshot_lite.personal.adapt_options import AdaptOptions
from fewshot_lite.personal.views import (
    AS_IS,
    MIRRORED,
    Pixels,
    choose_views,
    view,
    without_mirrored,
)

#: Photos whose views are in memory at a time.
_CHUNK = 16


@dataclass(frozen=True)
class OnePass:
    """A support set of N photos in V views each, N V rows, the views of a photo together."""

    classifier: TaskClassifier
    """Its support features are (N V, d)."""
    choice: Choice
    views: tuple[str, ...]
    """Their names, V; the first is the photo as it is."""
    maps: Tensor
    """The maps of `Learner.lower_maps`, one a row."""
    labels: Tensor
    """int64 (N V,) of 0..K-1."""
    classes: int
    """K."""
    groups: Tensor
    """int64 (N V,), equal for the views of a photo and the frames of a clip."""
    as_is: Tensor
    """bool (N V,), the rows that are photos as they are."""

    @property
    def support(self) -> SupportSet:
        """The support set as `choose_head` takes it."""
        features = self.classifier.support_features
        return SupportSet(features, self.labels, self.classes, self.groups, self.as_is)

    def kept(self, rows: Tensor) -> OnePass:
        """Return the rows where `rows`, bool (N V,), is True, with the same head."""
        features = self.classifier.support_features[rows]
        return replace(
            self,
            classifier=replace(self.classifier, support_features=features),
            maps=self.maps[rows],
            labels=self.labels[rows],
            groups=self.groups[rows],
            as_is=self.as_is[rows],
        )


def adapt_in_one_pass(
    learner: Learner,
    images: Tensor,
    labels: Tensor,
    classes: int,
    options: AdaptOptions = AdaptOptions(),
    *,
    passes: Passes = Passes(),
    groups: Tensor | None = None,
    by_onnxruntime: bool = False,
    on_done: OnDone | None = None,
) -> OnePass:
    """Adapt a learner to photos in one forward pass of their views, and choose the head.

    Args:
        learner: one that adapts in one pass.
        images: (N, 3, S, S), uint8 or float in [0, 1].
        labels: int64 (N,) of 0..K-1, on the learner's device, every class present.
        classes: K.
        options: the head and the views.
        passes: images in a pass, and the cast.
        groups: int64 (N,), equal for frames of one clip; None if each photo is alone.
        by_onnxruntime: run the network by onnxruntime if that can, which is faster and is not
            counted (`networks.inference`).
        on_done: called with (photos that went through the network, photos in all); those that went
            through a part of it count in part.

    Raises:
        UsageError: views that do not go together.
        FewshotError: values that are not finite.
    """
    names = choose_views(options.views, options.mirror, len(labels))
    rows = labels.repeat_interleave(len(names))
    if groups is None:
        groups = torch.arange(len(labels), device=labels.device)
    together = groups.repeat_interleave(len(names))
    as_is = torch.tensor([name == AS_IS for name in names], device=labels.device)
    as_is = as_is.repeat(len(labels))
    size = images.shape[-1] if by_onnxruntime and images.dtype == torch.uint8 else None
    count = _counting(len(rows) * (2 if learner.first_stage else 1), len(labels), on_done)
    x = _lower_maps(learner, images, names, size, count, passes)

    def engine(parameters: NormParameters) -> Run:
        first = learner.first_stage
        run = compiled(learner.backbone, size, start=first, parameters=parameters) if size else None
        return count(run or (lambda part: learner.features(part, parameters)))

    classifier = learner.adapt_from_maps(x, rows, classes, passes=passes, engine=engine)
    support = SupportSet(classifier.support_features, rows, classes, together, as_is)
    choice = choose_head(options.head, learner.head, support)
    adapted = OnePass(classifier, choice, names, x, rows, classes, together, as_is)
    if MIRRORED not in names or options.mirror is not None:
        return adapted
    arrays, array_groups = support.arrays()
    assert array_groups is not None
    kept = without_mirrored(as_array_head(choice.head), arrays, array_groups, names)
    if kept is None:
        return adapted
    adapted = adapted.kept(torch.from_numpy(kept).to(labels.device))
    names = tuple(name for name in names if name != MIRRORED)
    choice = choose_head(options.head, learner.head, adapted.support)
    return replace(adapted, choice=choice, views=names)


def _lower_maps(
    learner: Learner,
    images: Tensor,
    names: Sequence[str],
    size: int | None,
    count: Callable[[Run], Run],
    passes: Passes,
) -> Tensor:
    """Return the lower maps of all views of images, computed for some photos at a time.

    Args:
        size: side of the images, if onnxruntime may run the stages.
    """
    device = learner.backbone.mean.device
    first = learner.first_stage
    if not first:
        return in_views(images, names).to(device)
    run = count(
        (compiled(learner.backbone, size, stop=first) if size else None) or learner.lower_maps
    )
    x: Tensor | None = None
    for start in range(0, len(images), _CHUNK):
        part = in_views(images[start : start + _CHUNK], names).to(device)
        maps = passes.map(run, part)
        if x is None:  # allocated once: joining parts at the end would hold them twice
            x = maps.new_empty(len(images) * len(names), *maps.shape[1:])
        x[start * len(names) :][: len(maps)] = maps
    assert x is not None
    return x


def _counting(rows: int, photos: int, on_done: OnDone | None) -> Callable[[Run], Run]:
    """Return a decorator that reports the progress of functions of rows to `on_done`."""
    done = 0

    def counted(run: Run) -> Run:
        def counting(part: Tensor) -> Tensor:
            nonlocal done
            result = run(part)
            done += len(part)
            if on_done is not None:
                on_done(done * photos // rows, photos)
            return result

        return counting

    return counted


def in_views(images: Tensor, names: Sequence[str]) -> Tensor:
    """Return the views of all photos, photo by photo, (N V, 3, S, S) in the images' dtype."""
    if len(names) == 1:
        return images
    pixels = as_bytes(images)
    views = [torch.from_numpy(view(pixels, name)) for name in names if name != AS_IS]
    if images.dtype != torch.uint8:
        views = [x.to(images.dtype) / 255 for x in views]
    return torch.stack([images.cpu(), *views], dim=1).flatten(0, 1)


def as_bytes(images: Tensor) -> Pixels:
    """Convert images to NumPy arrays, uint8 in 0..255."""
    if images.dtype != torch.uint8:
        images = (images * 255).round().clamp(0, 255).byte()
    pixels: Pixels = images.cpu().numpy()
    return pixels
