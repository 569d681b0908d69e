"""A meta-trained checkpoint in memory: a learner with its preprocessing and its record."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot_lite import __version__
from fewshot_lite.core import checkpoint
from fewshot_lite.core.config import HeadName
from fewshot_lite.core.damage import damage_as
from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.files import DEFAULT_BASE
from fewshot_lite.data.store import decode
from fewshot_lite.heads.choice import (
    adapted_choice,
    check_adapted_head,
    choose_head,
)
from fewshot_lite.heads.registry import NAMED_HEADS
from fewshot_lite.images.folders import ImageFolder, Skipped, scan_classes
from fewshot_lite.images.preflight import Examiner, Finding, StrictError
from fewshot_lite.images.thumbnails import make_thumbnails
from fewshot_lite.learners import Frozen, Learner, TaskClassifier
from fewshot_lite.maml.gradient_learner import GradientLearner
from fewshot_lite.maml.registry import make_learner
from fewshot_lite.networks.backbone_record import describe_backbone, described_backbone
from fewshot_lite.networks.film import folded
from fewshot_lite.networks.weights import load_backbone
from fewshot_lite.personal.bases import Base, parse_base
from fewshot_lite.personal.cross_adaptation import cross_adapt
from fewshot_lite.personal.model import Adaptation, PersonalModel
from fewshot_lite.personal.prediction import check_not_unknown


@dataclass
class MetaModel:
    """A learner that can adapt to a person's photos."""

    learner: Learner
    image_size: int
    """Side of the images it was trained on, in pixels."""
    record: dict[str, Any] = field(default_factory=dict)
    """How it was made: training arguments, data, figures."""
    source: dict[str, str] = field(default_factory=dict)
    """Name and hash of the file it was loaded from."""

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
        photos: str | Path | Tensor,
        labels: Sequence[str] | None = None,
        *,
        head: HeadName = "default",
        strict: bool = False,
        thumbnails: bool = True,
        on_done: Callable[[int, int], None] | None = None,
        on_fold: Callable[[int, int], None] | None = None,
    ) -> PersonalModel:
        """Adapt to a person's classes: in one forward pass, or by the learner's gradient steps.

        Args:
            photos: a folder with one folder of photos per class, or images, uint8 or float in
                [0, 1], (N, 3, S, S) with S = `image_size`.
            labels: N class names, with images and only with them.
            head: what tells the classes apart; "auto" chooses by cross-validation on the photos.
            strict: fail if anything is wrong with the folder; `images.preflight` lists what may be.
            thumbnails: keep small pictures of the photos, for reports (`personal.report`).
            on_done: called with (photos decoded, photos in all).
            on_fold: of learners that adapt by gradient, with (folds done, folds in all) of
                `cross_adaptation`.

        Returns:
            The personal model; its `adaptation` tells what was used and what was skipped.

        Raises:
            UsageError, FewshotError: a folder or images that cannot be adapted to; files that
                cannot be read are skipped as long as each class keeps one.
            StrictError: something is wrong with the folder, and `strict` is set.
        """
        start = time.perf_counter()
        skipped: tuple[Skipped, ...] = ()
        findings: tuple[Finding, ...] = ()
        used_photos: tuple[str, ...] = ()
        root: Path | None = None
        paths: tuple[Path, ...] = ()
        by_gradient = isinstance(self.learner, GradientLearner)
        if by_gradient:
            check_adapted_head(head)
        if isinstance(photos, Tensor):
            images, names, numbers = _labelled(photos, labels, self.image_size)
            self._check_way("labels", len(names))
            left_out = (0,) * len(names)
        else:
            if labels is not None:
                raise UsageError("labels: for images only; a folder's class folders name them.")
            folder = scan_classes(Path(photos))
            check_not_unknown(folder.class_names)
            images, good, skipped, findings = _read(folder, self.image_size, strict, on_done)
            kept = sorted({folder.labels[i] for i in good})  # classes with a photo
            self._check_way(str(folder.root), len(kept))
            names = tuple(folder.class_names[k] for k in kept)
            numbers = [kept.index(folder.labels[i]) for i in good]
            root, paths = folder.root, tuple(folder.paths[i] for i in good)
            used_photos = tuple(_spelled(path, root) for path in paths)
            homes = [folder.root / name for name in names]
            left_out = tuple(sum(h in s.path.parents for s in skipped) for h in homes)
        device = self.learner.backbone.mean.device
        targets = torch.tensor(numbers, device=device)
        images = images.to(device)
        classifier = self.learner.adapt(images, targets, len(names))
        support = classifier.support_features
        strangeness: Tensor | None = None
        logits: Tensor | None = None
        if by_gradient:
            _check_descended(classifier, targets)
            crossed = cross_adapt(self.learner, images, targets, len(names), on_done=on_fold)
            choice = adapted_choice(classifier.statistics, crossed.logits, targets)
            strangeness, logits = crossed.strangeness, choice.factor * crossed.logits
        else:
            choice = choose_head(head, self.learner.head, support, targets, len(names))
        personal = PersonalModel(
            folded(self.learner.backbone, classifier.parameters),
            choice.head,
            support,
            targets,
            names,
            self.image_size,
            {
                "base": self.source,
                "learner": self.learner.name,
                "head": choice.record(),
                "version": __version__,
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
            },
            used_photos,
            strangeness,
            left_out_logits=logits,
            thumbnails=_small(images) if thumbnails else (),
        )
        seconds = time.perf_counter() - start
        used = tuple(numbers.count(k) for k in range(len(names)))
        personal.adaptation = Adaptation(
            names, used, left_out, skipped, seconds, findings, root, paths
        )
        return personal

    def _check_way(self, where: str, classes: int) -> None:
        """Refuse a number of classes that a head learned for another cannot tell apart."""
        way = self.learner.head.way
        if way not in (None, classes):
            raise UsageError(
                f"{where}: {classes} classes, but the head of this base was learned for {way}. "
                f"Give {way}, or a --base that was meta-trained with --inner-head means."
            )


def _check_descended(classifier: TaskClassifier, labels: Tensor) -> None:
    """Refuse what came of steps too long, though finite: far worse than guessing.

    Raises:
        FewshotError: twice the loss of guessing, or more.
    """
    logits = classifier.learner.head.logits(classifier.statistics, classifier.support_features)
    loss = float(F.cross_entropy(logits, labels))
    guessing = math.log(logits.shape[1])
    if not loss < 2 * guessing:
        raise FewshotError(
            f"Adapting diverged: after its steps the loss on the photos is {loss:.3g}, "
            f"and that of guessing {guessing:.3g}. Meta-train the base with a smaller --inner-lr."
        )


def _labelled(
    images: Tensor, labels: Sequence[str] | None, size: int
) -> tuple[Tensor, tuple[str, ...], list[int]]:
    """Images, class names in alphabetical order, class numbers."""
    if labels is None or len(labels) != len(images):
        raise UsageError("labels: as many class names as images are needed.")
    if images.ndim != 4 or tuple(images.shape[1:]) != (3, size, size):
        raise UsageError(
            f"images: of shape {tuple(images.shape)}, but this model takes (N, 3, {size}, {size})."
        )
    if images.dtype != torch.uint8:
        images = images.float()
        if not bool(((images >= -0.5) & (images <= 1.5)).all()):  # resizing may overshoot a little
            raise UsageError("images: give uint8 in 0..255, or floats in [0, 1].")
    labels = [str(label) for label in (labels.tolist() if isinstance(labels, Tensor) else labels)]
    names = tuple(sorted(set(labels)))
    check_not_unknown(names)
    if len(names) < 2:
        raise FewshotError("One class only: there is nothing to tell apart. Give at least two.")
    if len({name.lower() for name in names}) < len(names):
        raise UsageError("labels: two class names differ only in case. Spell them alike.")
    return images, names, [names.index(label) for label in labels]


def _read(
    folder: ImageFolder, size: int, strict: bool, on_done: Callable[[int, int], None] | None
) -> tuple[Tensor, list[int], tuple[Skipped, ...], tuple[Finding, ...]]:
    """The readable photos of a folder, their indices in it, what was skipped and what is wrong."""
    if len(folder.class_names) < 2:
        raise FewshotError(
            f"{folder.root}: one class only ({folder.class_names[0]!r}), so there is nothing to "
            "tell apart. Add a folder of something else."
        )
    total = len(folder.paths)
    examiner = Examiner(folder, size)
    count = (lambda n: on_done(n, total)) if on_done else None
    images, problems = decode(folder.paths, size, look=examiner.look, on_done=count)
    skipped = [*folder.skipped, *(Skipped(folder.paths[i], why) for i, why in problems.items())]
    good = [i for i in range(total) if i not in problems]
    read = {folder.labels[i] for i in good}
    for number, name in enumerate(folder.class_names):
        if number not in read:
            empty = folder.root / name
            why = next((s for s in skipped if empty in s.path.parents), None)
            detail = f" ({why.path.name}: {why.reason})" if why else ""
            skipped.append(Skipped(empty, f"no photo in it can be read{detail}: left out"))
    if len(read) < 2:
        raise FewshotError(
            f"{empty}: no photo in it can be read{detail}. Put photos in: two classes with photos "
            "at least are needed."
        )
    findings = examiner.findings(problems)
    if strict and findings:
        raise StrictError(folder.root, findings)
    return images[good], good, tuple(sorted(skipped, key=lambda s: str(s.path))), findings


def _small(images: Tensor) -> tuple[bytes, ...]:
    """Thumbnails of images as `adapt` takes them."""
    if images.dtype != torch.uint8:
        images = (images * 255).round().clamp(0, 255).byte()
    return make_thumbnails(images.cpu().numpy())


def _spelled(path: Path, root: Path) -> str:
    """A photo's name for the record: relative, with /, and valid Unicode whatever the disk has."""
    return os.fsencode(path.relative_to(root).as_posix()).decode(errors="replace")


def load(
    base: str | Path = DEFAULT_BASE,
    *,
    weights: str | Path | None = None,
    device: str = "cpu",
) -> MetaModel:
    """`MetaModel.load`: the shipped model, a checkpoint of your own, or a torchvision network."""
    return MetaModel.load(base, weights=weights, device=device)
