"""A meta-trained checkpoint in memory: a learner with its preprocessing and its record."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot_lite import __version__
from fewshot_lite.core import checkpoint
from fewshot_lite.core.config import HeadName, Refine, check_word
from fewshot_lite.core.damage import damage_as
from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.files import DEFAULT_BASE
from fewshot_lite.heads.choice import (
    Choice,
    adapted_choice,
    check_adapted_head,
)
from fewshot_lite.heads.registry import NAMED_HEADS
from fewshot_lite.images.thumbnails import make_thumbnails
from fewshot_lite.learners import Frozen, Learner, TaskClassifier
from fewshot_lite.maml.gradient_learner import GradientLearner
from fewshot_lite.maml.refined import RefinedLearner
from fewshot_lite.maml.registry import make_learner
from fewshot_lite.networks.backbone_record import describe_backbone, described_backbone
from fewshot_lite.networks.film import NormParameters, folded
from fewshot_lite.networks.weights import load_backbone
from fewshot_lite.personal.base_argument import Base, parse_base
from fewshot_lite.personal.cross_adaptation import cross_adapt
from fewshot_lite.personal.one_pass import adapt_in_one_pass, as_bytes
from fewshot_lite.personal.personal_model import Adaptation, PersonalModel
from fewshot_lite.personal.refining import refine_support
from fewshot_lite.personal.support import Labels, Photos, Support, read_support
from fewshot_lite.personal.views import AS_IS, choose_views


@dataclass(repr=False)
class MetaModel:
    """A learner that can adapt to a person's photos."""

    learner: Learner
    image_size: int
    """Side of the images it was trained on, in pixels."""
    record: dict[str, Any] = field(default_factory=dict)
    """How it was made: training arguments, data, figures."""
    source: dict[str, str] = field(default_factory=dict)
    """Name and hash of the file it was loaded from."""

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
        """Read a meta-trained checkpoint, or take a torchvision network as it was pre-trained.

        Args:
            base: a file, the name of a checkpoint that ships, or torchvision's name of a network,
                whose ImageNet weights are downloaded once and checked by hash.
            weights: a file of a network's weights instead: safetensors or a .pth of a state dict.
            device: where to.

        Raises:
            UsageError: no such file or name, or a file of another kind.
            FewshotError: a damaged file, or weights that cannot be had.
        """
        found = parse_base(base, weights)
        if found.network is not None:
            return cls._frozen(found, device)
        path = found.checkpoint
        assert path is not None
        file = checkpoint.load(path, "meta", flag="--base")
        meta = file.meta
        with damage_as(f"{path}: damaged or from another version"):
            learner = checkpoint.build(
                lambda: make_learner(
                    meta["learner"], described_backbone(meta), meta["hyperparameters"]
                ),
                file.tensors,
            )
        learner.requires_grad_(False)
        return cls(
            learner.to(device),
            checkpoint.image_size(meta),
            meta.get("record", {}),
            {"name": path.stem, "sha256": checkpoint.sha256(path)},
        )

    @classmethod
    def _frozen(cls, base: Base, device: str) -> MetaModel:
        """A network without meta-training."""
        weights = str(base.weights) if base.weights else "default"
        backbone, record = load_backbone(base.network, weights, None, foreign_size=None)
        learner = Frozen(backbone, head=NAMED_HEADS["mahalanobis-root"]()).requires_grad_(False)
        source = {"name": backbone.name, "weights": str(record["weights"])}
        if "sha256" in record:
            source["sha256"] = record["sha256"]
        size = backbone.image_size
        return cls(learner.to(device), size, {"initial_weights": record}, source)

    def save(self, path: Path, *, half: bool = False) -> None:
        """Write the checkpoint. Half precision halves the file; see `checkpoint.save`."""
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
        )

    def adapt(
        self,
        photos: Photos,
        labels: Labels | None = None,
        *,
        head: HeadName = "default",
        views: int | None = None,
        mirror: bool | None = None,
        refine: Refine = "off",
        strict: bool = False,
        thumbnails: bool = True,
        on_done: Callable[[int, int], None] | None = None,
        on_embedded: Callable[[int, int], None] | None = None,
        on_fold: Callable[[int, int], None] | None = None,
    ) -> PersonalModel:
        """Adapt to a person's classes: in one forward pass, or by the learner's gradient steps.

        Args:
            photos: a folder, or a ZIP archive, with one folder of photos per class; or N photos in
                any forms and sizes (`images.inputs.Photo`: paths, bytes, images of Pillow's,
                arrays, tensors). Tensors (N, 3, S, S) with S = `image_size` are taken as they are.
            labels: N class names for photos; what is none, a number, say, is named by its `str`. Or
                a CSV file of files in a folder and their classes (`images.labels_file`).
            head: as `adapt_to` takes it.
            views: as `adapt_to` takes it.
            mirror: as `adapt_to` takes it.
            refine: as `adapt_to` takes it.
            thumbnails: as `adapt_to` takes it.
            on_embedded: as `adapt_to` takes it.
            on_fold: as `adapt_to` takes it.
            strict: fail if anything is wrong with the photos; `images.preflight` lists what may be.
            on_done: called with (photos decoded, photos in all).

        Returns:
            The personal model; its `adaptation` tells what was used and what was skipped.

        Raises:
            UsageError, FewshotError: a folder or images that cannot be adapted to; files that
                cannot be read are skipped.
            StrictError: something is wrong with the folder, and `strict` is set.
        """
        start = time.perf_counter()
        self._check(head, views, mirror, refine)
        support = read_support(
            photos,
            labels,
            self.image_size,
            strict=strict,
            on_done=on_done,
            check_way=self._check_way,
        )
        personal = self.adapt_to(
            support,
            head=head,
            views=views,
            mirror=mirror,
            refine=refine,
            thumbnails=thumbnails,
            on_embedded=on_embedded,
            on_fold=on_fold,
        )
        seconds = time.perf_counter() - start
        personal.adaptation = Adaptation(
            support.class_names,
            support.used,
            support.skipped_per_class,
            support.skipped,
            seconds,
            support.findings,
            support.root,
            support.paths,
        )
        return personal

    def adapt_to(
        self,
        support: Support,
        *,
        head: HeadName = "default",
        views: int | None = None,
        mirror: bool | None = None,
        refine: Refine = "off",
        thumbnails: bool = True,
        on_embedded: Callable[[int, int], None] | None = None,
        on_fold: Callable[[int, int], None] | None = None,
    ) -> PersonalModel:
        """Adapt to images.

        Args:
            support: the images, of side `image_size`.
            head: what tells the classes apart; "auto" chooses by cross-validation on the photos.
            views: of each photo to adapt to, 1 or 3 (`personal.views`); None takes 3, but 1 of a
                thousand photos and more, and of learners that adapt by gradient.
            mirror: whether one of them is mirrored; None leaves them out if the photos are then
                clearly named better when each is left out, as where classes are each other's
                mirror images.
            refine: take gradient steps from the one-pass solution (`maml.refined`): "off", "on", or
                "auto": if photos left out are named better after them.
            thumbnails: keep small pictures of the photos, for reports (`personal.report`).
            on_embedded: called with (photos that went through the network, photos in all).
            on_fold: of learners that adapt by gradient, with (folds done, folds in all) of
                `cross_adaptation`; of refinement, with (steps taken, steps in all).

        Raises:
            UsageError, FewshotError: what cannot be adapted to.
        """
        self._check(head, views, mirror, refine)
        self._check_way(str(support.root or "labels"), len(support.class_names))
        if isinstance(self.learner, GradientLearner):
            return self._descend(support, thumbnails, on_fold)
        labels = torch.tensor(support.labels, device=self.learner.backbone.mean.device)
        found = adapt_in_one_pass(
            self.learner,
            support.images,
            labels,
            len(support.class_names),
            head=head,
            views=views,
            mirror=mirror,
            by_onnxruntime=True,
            on_done=on_embedded,
        )
        classifier, choice = found.classifier, found.choice
        record: dict[str, Any] = {}
        without_each: dict[str, Tensor] = {}
        if refine != "off":
            learner = RefinedLearner(self.learner)
            always = refine == "on"
            refined, record["refined"] = refine_support(
                learner, found, len(support.class_names), always=always, on_step=on_fold
            )
            if refined is not None:
                classifier, choice = refined.classifier, refined.choice
                without_each = {
                    "support_strangeness": refined.crossed.strangeness,
                    "leave_one_out_logits": refined.crossed.logits,
                }
        return self._personal(
            support,
            classifier.parameters,
            choice,
            classifier.support_features.unflatten(0, (len(labels), len(found.views))),
            thumbnails,
            found.views,
            record,
            **without_each,
        )

    def _descend(
        self,
        support: Support,
        thumbnails: bool,
        on_fold: Callable[[int, int], None] | None,
    ) -> PersonalModel:
        """`adapt_to` of a learner that adapts by gradient steps."""
        assert isinstance(self.learner, GradientLearner)
        device = self.learner.backbone.mean.device
        images, labels = support.images.to(device), torch.tensor(support.labels, device=device)
        classes = len(support.class_names)
        classifier = self.learner.adapt(images, labels, classes)
        _check_descended(self.learner, classifier, images, labels)
        crossed = cross_adapt(self.learner, images, labels, classes, on_done=on_fold)
        choice = adapted_choice(classifier.statistics, crossed.logits, labels)
        return self._personal(
            support,
            classifier.parameters,
            choice,
            classifier.support_features,
            thumbnails,
            support_strangeness=crossed.strangeness,
            leave_one_out_logits=choice.factor * crossed.logits,
        )

    def _personal(
        self,
        support: Support,
        parameters: NormParameters,
        choice: Choice,
        features: Tensor,
        thumbnails: bool,
        views: tuple[str, ...] = (AS_IS,),
        record: Mapping[str, Any] = MappingProxyType({}),
        **without_each: Tensor,
    ) -> PersonalModel:
        return PersonalModel(
            folded(self.learner.backbone, parameters),
            choice.head,
            features,
            torch.tensor(support.labels, device=features.device),
            support.class_names,
            self.image_size,
            {
                "base": self.source,
                "learner": self.learner.name,
                "head": choice.record(),
                "views": list(views),
                **record,
                "version": __version__,
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
            },
            support.photos,
            thumbnails=make_thumbnails(as_bytes(support.images)) if thumbnails else (),
            **without_each,
        )

    def _check(
        self, head: HeadName, views: int | None, mirror: bool | None, refine: Refine
    ) -> None:
        """Refuse what has no part in adapting, before photos are read."""
        check_word("--head", head, HeadName)
        check_word("--refine", refine, Refine)
        choose_views(views, mirror, 0)
        if refine != "off":
            RefinedLearner(self.learner)  # says whether it can be refined
            if head != "default":
                raise UsageError(
                    f"--head {head}: must be left out with --refine, which adapts a head too."
                )
        if isinstance(self.learner, GradientLearner):
            check_adapted_head(head)
            if views == 3 or mirror:
                raise UsageError(
                    "--views, --mirror: must be left out with a base that adapts by gradient steps."
                )

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
    """Refuse what came of steps too long, though finite.

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
