"""A meta-trained checkpoint in memory: a learner with its preprocessing and its record."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot_lite import __version__
from fewshot_lite.core import checkpoint
from fewshot_lite.core.config import HeadName, Refine, switches_checked
from fewshot_lite.core.devices import pick_device
from fewshot_lite.core.errors import FewshotError, UsageError, damage_as
from fewshot_lite.core.files import DEFAULT_BASE, as_path
from fewshot_lite.core.progress import OnDone
from fewshot_lite.heads.choice import adapted_choice
from fewshot_lite.heads.in_numpy import as_array, check_head_tensors, state_of
from fewshot_lite.heads.registry import NAMED_HEADS
from fewshot_lite.images.decoding import digest_of
from fewshot_lite.images.kinds import check_model_name
from fewshot_lite.images.thumbnails import make_thumbnails
from fewshot_lite.learners import Frozen, Learner, TaskClassifier
from fewshot_lite.maml.gradient_learner import GradientLearner
from fewshot_lite.maml.refined import RefinedLearner, Refinement
from fewshot_lite.maml.registry import make_learner
from fewshot_lite.networks.backbone import describe_backbone, described_backbone
from fewshot_lite.networks.film import folded
from fewshot_lite.networks.stages import Staged
from fewshot_lite.networks.weights import load_backbone
from fewshot_lite.personal.adapt_options import AdaptOptions
from fewshot_lite.personal.base_argument import Base, parse_base
from fewshot_lite.personal.cross_adaptation import Adapted, cross_adapt
from fewshot_lite.personal.one_pass import adapt_in_one_pass, as_bytes
from fewshot_lite.personal.personal_model import PersonalModel
from fewshot_lite.personal.refining import refine_support
from fewshot_lite.personal.support import (
    Labels,
    Photos,
    Reading,
    Support,
    contents_of,
    read_support,
)

#: Key in a checkpoint's record: the stages that `refine` moves, as `lambda-search` chose them.
REFINE_PATTERN = "refine_pattern"
#: The pattern that moves only FiLM parameters, of the upper half of the stages.
FILM_ALONE = "film"


@dataclass(repr=False)
class MetaModel:
    """A meta-trained learner with its image size, which adapts to a person's photos."""

    learner: Learner
    image_size: int
    """Side of the images it was trained on, in pixels."""
    record: dict[str, Any] = field(default_factory=dict)
    """Its provenance: training arguments, data, figures."""
    source: dict[str, str] = field(default_factory=dict)
    """Name and hash of the file it was loaded from."""
    halved: frozenset[str] = frozenset()
    """Names of the tensors that the file holds in half precision; `save` keeps them so."""

    def __repr__(self) -> str:
        learner = self.learner
        return f"MetaModel({learner.name}, {learner.backbone.name}, {self.image_size} px)"

    @classmethod
    def load(
        cls,
        base: str | Path = DEFAULT_BASE,
        *,
        weights: str | Path | None = None,
        device: str = "cpu",
    ) -> MetaModel:
        """Read a meta-trained checkpoint, or a pre-trained torchvision network.

        Args:
            base: a file, the name of a checkpoint that ships, or torchvision's name of a network,
                whose ImageNet weights are downloaded once and checked by hash.
            weights: a file of a network's weights instead: safetensors or a .pth of a state dict.
            device: the device to load it to.

        Raises:
            UsageError: no such file, name or device, or a file of another kind.
            FewshotError: a damaged file, or weights that cannot be had.
        """
        parsed, where = parse_base(base, weights), pick_device(device)
        if parsed.network is not None:
            return cls._frozen(parsed, where)
        path = parsed.checkpoint
        assert path is not None
        file = checkpoint.load(path, "meta", flag="--base")
        meta = file.meta
        with damage_as(f"{path}: damaged or from another version"):
            record = _record(meta)
            learner = checkpoint.build(
                lambda: make_learner(
                    meta["learner"], described_backbone(meta), meta["hyperparameters"]
                ),
                file.tensors,
            )
            check_head_tensors(state_of(learner.head))
        learner.requires_grad_(False)
        return cls(
            learner.to(where),
            checkpoint.image_size(meta),
            record,
            {"name": path.stem, "sha256": checkpoint.sha256(path)},
            file.halved,
        )

    @classmethod
    def _frozen(cls, base: Base, device: torch.device) -> MetaModel:
        """Load a pre-trained network that was not meta-trained."""
        weights = str(base.weights) if base.weights else "default"
        backbone, record = load_backbone(base.network, weights, None, foreign_size=None)
        learner = Frozen(backbone, head=NAMED_HEADS["mahalanobis-root"]()).requires_grad_(False)
        source = {"name": backbone.name, "weights": str(record["weights"])}
        if "sha256" in record:
            source["sha256"] = record["sha256"]
        size = backbone.image_size
        return cls(learner.to(device), size, {"initial_weights": record}, source)

    @switches_checked
    def save(self, path: str | Path, *, half: bool = False) -> None:
        """Write the checkpoint, each tensor in the precision of the file that it was loaded from.

        Args:
            path: the file to write.
            half: store all tensors in half precision, which halves the file; see `checkpoint.save`.

        Raises:
            UsageError: the name is that of another kind of file, e.g. of a photo.
            FewshotError: it cannot be written.
        """
        path = as_path(path, "path")
        check_model_name(path, "path")
        learner = self.learner
        checkpoint.save(
            path,
            "meta",
            learner.state_dict(),
            {
                "version": __version__,
                "learner": learner.name,
                "hyperparameters": learner.hyperparameters(),
                **describe_backbone(learner.backbone, self.image_size),
                "record": self.record,
            },
            half=half,
            halved=self.halved,
        )

    def refinement(self, pattern: str | None = None) -> Refinement:
        """Return the settings of `refine`, for the given, the stored or the default pattern.

        By default FiLM parameters move, in five steps that see 10 photos, by twice the step size of
        ten (`benchmarks/accuracy/refining.py`).

        Args:
            pattern: as `AdaptOptions.refine_pattern`.
        """
        chosen = pattern or str(self.record.get(REFINE_PATTERN, FILM_ALONE))
        if chosen != FILM_ALONE:
            return Refinement(pattern=chosen)
        stages = Staged(self.learner.backbone).layers[:-1]
        upper = stages[max(self.learner.first_stage, len(stages) // 2) :]
        return Refinement(
            moves="film", steps=5, film_lr=4e-3, batch=10, pattern=",".join(upper) or None
        )

    @switches_checked
    def adapt(
        self,
        photos: Photos,
        labels: Labels | None = None,
        *,
        head: HeadName = "default",
        views: int | None = None,
        mirror: bool | None = None,
        refine: Refine = "off",
        refine_pattern: str | None = None,
        frames: int | None = None,
        strict: bool = False,
        thumbnails: bool = True,
        workers: int | None = None,
        on_done: OnDone | None = None,
        on_video: OnDone | None = None,
        on_embedded: OnDone | None = None,
        on_fold: OnDone | None = None,
    ) -> PersonalModel:
        """Adapt to a person's classes: in one forward pass, or by the learner's gradient steps.

        Args:
            photos: a folder, or a ZIP archive, with one folder of photos and videos per class; or N
                photos in any form and size (`images.inputs.Photo`: paths, bytes, images of
                Pillow's, arrays, tensors), files and bytes of videos, too. Tensors (N, 3, S, S)
                with S = `image_size` are taken as they are.
            labels: N class names; other values, such as numbers, are named by their `str`. Or a CSV
                file of the files in a folder and their classes (`images.labels_file`).
            head: as `AdaptOptions` has it.
            views: as `AdaptOptions` has it.
            mirror: as `AdaptOptions` has it.
            refine: as `AdaptOptions` has it.
            refine_pattern: as `AdaptOptions` has it.
            frames: frames drawn from each video, without near copies; by default
                `images.videos.FRAMES`. Leave-one-out leaves a video's frames out together.
            strict: fail if anything is wrong with the photos, as `images.preflight` lists it.
            thumbnails: as `AdaptOptions` has it.
            workers: threads that decode; by default one a core and two more.
            on_done: called with (photos decoded, photos in all).
            on_video: called with (videos read, videos in all).
            on_embedded: as `adapt_to` takes it.
            on_fold: as `adapt_to` takes it.

        Returns:
            The personal model; its `adaptation` tells what was used and what was skipped.

        Raises:
            UsageError, FewshotError: a folder or images that cannot be adapted to; files that
                cannot be read are skipped.
            StrictError: something is wrong with the folder, and `strict` is set.
        """
        start = time.perf_counter()
        options = AdaptOptions(head, views, mirror, refine, refine_pattern, thumbnails)
        options.check(self.learner, self.refinement(refine_pattern))
        reading = Reading(frames, strict, workers, on_done, on_video, self._check_way)
        support = read_support(photos, labels, self.image_size, reading)
        personal = self.adapt_to(support, options, on_embedded=on_embedded, on_fold=on_fold)
        personal.adaptation = support.adapted_to(start)
        return personal

    def adapt_to(
        self,
        support: Support,
        options: AdaptOptions,
        *,
        on_embedded: OnDone | None = None,
        on_fold: OnDone | None = None,
    ) -> PersonalModel:
        """Adapt to a support set that was read before.

        Args:
            support: images of side `image_size` with labels.
            options: the options of adapting.
            on_embedded: called with (photos that went through the network, photos in all).
            on_fold: called with (folds done, folds in all) of `cross_adaptation` if the learner
                adapts by gradient, or with (steps taken, steps in all) of refinement.

        Raises:
            UsageError, FewshotError: options or images that cannot be adapted to.
        """
        options.check(self.learner, self.refinement(options.refine_pattern))
        self._check_way(str(support.root or "labels"), len(support.class_names))
        adapted = (
            self._by_gradient(support, on_fold)
            if isinstance(self.learner, GradientLearner)
            else self._in_one_pass(support, options, on_embedded, on_fold)
        )
        return self._personal(support, adapted, options.thumbnails)

    def _in_one_pass(
        self,
        support: Support,
        options: AdaptOptions,
        on_embedded: OnDone | None,
        on_fold: OnDone | None,
    ) -> Adapted:
        labels, classes, groups = self._targets(support)
        one_pass = adapt_in_one_pass(
            self.learner,
            torch.as_tensor(support.images),
            labels,
            classes,
            options,
            groups=groups,
            by_onnxruntime=True,
            on_done=on_embedded,
        )
        if options.refine == "off":
            return Adapted(one_pass.classifier, one_pass.choice, one_pass.views)
        settings = self.refinement(options.refine_pattern)
        learner = RefinedLearner(self.learner, settings, image_size=self.image_size)
        return refine_support(learner, one_pass, always=options.refine == "on", on_step=on_fold)

    def _by_gradient(self, support: Support, on_fold: OnDone | None) -> Adapted:
        assert isinstance(self.learner, GradientLearner)
        labels, classes, groups = self._targets(support)
        images = torch.as_tensor(support.images, device=labels.device)
        classifier = self.learner.adapt(images, labels, classes)
        _check_descended(self.learner, classifier, images, labels)
        crossed = cross_adapt(self.learner, images, labels, classes, groups, on_done=on_fold)
        choice = adapted_choice(classifier.statistics, crossed.logits, labels, groups)
        crossed = replace(crossed, logits=choice.factor * crossed.logits)
        return Adapted(classifier, choice, crossed=crossed)

    def _targets(self, support: Support) -> tuple[Tensor, int, Tensor]:
        """Return labels int64 (N,), K and leave-out groups int64 (N,) on the learner's device."""
        device = self.learner.backbone.mean.device
        groups = support.groups or tuple(range(len(support.labels)))
        labels = torch.tensor(support.labels, device=device)
        return labels, len(support.class_names), torch.tensor(groups, device=device)

    def _personal(self, support: Support, adapted: Adapted, thumbnails: bool) -> PersonalModel:
        classifier, crossed = adapted.classifier, adapted.crossed
        pixels = as_bytes(torch.as_tensor(support.images))
        record = {
            "base": self.source,
            "learner": self.learner.name,
            "head": adapted.choice.record(),
            "views": list(adapted.views),
            **adapted.record,
        }
        contents = contents_of(
            support,
            self.image_size,
            as_array(classifier.support_features.unflatten(0, (-1, len(adapted.views)))),
            record,
            thumbnails=make_thumbnails(pixels) if thumbnails else (),
            digests=map(digest_of, pixels),
        )
        if crossed is not None:
            contents = replace(
                contents,
                support_strangeness=as_array(crossed.strangeness),
                leave_one_out_logits=as_array(crossed.logits),
            )
        backbone = folded(self.learner.backbone, classifier.parameters)
        return PersonalModel(backbone, adapted.choice.head, contents)

    def _check_way(self, where: str, classes: int) -> None:
        """Refuse a number of classes that a head learned for another cannot tell apart."""
        way = self.learner.head.way
        if way not in (None, classes):
            raise UsageError(
                f"{where}: {classes} classes, but the head of this base was learned for {way}. "
                f"Give {way}, or a --base that was meta-trained with --inner-head means."
            )


def _check_descended(
    learner: GradientLearner, classifier: TaskClassifier, images: Tensor, labels: Tensor
) -> None:
    """Refuse a result of steps that were too long, though finite.

    Raises:
        FewshotError: the loss is twice that of guessing or more, and above that before the steps.
    """
    classes = len(labels.unique())
    logits = learner.head.logits(classifier.statistics, classifier.support_features)
    loss, guessing = float(F.cross_entropy(logits, labels)), math.log(classes)
    if loss < 2 * guessing:
        return
    before = float(F.cross_entropy(learner.start_logits(images, labels, classes), labels))
    if not loss <= before:
        raise FewshotError(
            f"Adapting diverged: after its steps the loss on the photos is {loss:.3g}, before them "
            f"it was {before:.3g}. Meta-train the base with a smaller --inner-lr."
        )


def _record(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return the training record in a checkpoint's description.

    Raises:
        TypeError: the record is not one that `save` writes.
    """
    record = meta.get("record", {})
    if not isinstance(record, dict) or not isinstance(record.get(REFINE_PATTERN, ""), str):
        raise TypeError("record")
    return record
