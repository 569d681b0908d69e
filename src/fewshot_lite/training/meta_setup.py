"""Set up a meta-training run: open its data and build its learner."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from fewshot_lite import __version__
from fewshot_lite.core.config import flag
from fewshot_lite.core.devices import pick_micro_batch
from fewshot_lite.core.errors import UsageError, first_line
from fewshot_lite.core.precision import check_tf32, compile_network
from fewshot_lite.core.progress import Report
from fewshot_lite.images.folders import LabelledImages
from fewshot_lite.learners.base import Learner, lower_maps_of
from fewshot_lite.learners.film_learner import FilmLearner
from fewshot_lite.maml.gradient_learner import GradientLearner
from fewshot_lite.maml.meta_gradient import check_subset
from fewshot_lite.maml.registry import make_learner
from fewshot_lite.networks.backbone import Backbone, cast_for
from fewshot_lite.networks.micro_batches import Passes
from fewshot_lite.networks.weights import load_backbone
from fewshot_lite.published.data_sets import has_validation_sets, scan_data_sets
from fewshot_lite.training.meta_config import BY_GRADIENT, MetaTrainConfig
from fewshot_lite.training.optimisation import make_optimizer
from fewshot_lite.training.tasks import Cache, TrainingTasks, hold_out_classes, unseen_classes
from fewshot_lite.training.validation import ValidationTasks

#: The set encoder's constants are computed from this many images of this many first tasks.
_REFERENCE_TASKS, _REFERENCE_IMAGES = 8, 256


@dataclass(frozen=True)
class Setup:
    """Data and learner of a run."""

    learner: Learner
    image_size: int
    source: dict[str, Any]
    """The origin of the backbone's weights."""
    train: TrainingTasks
    validation: ValidationTasks
    folders: Sequence[LabelledImages]
    """All data sets of the run, for training and validation."""
    where: torch.device
    passes: Passes
    reference: torch.Tensor | None
    """Images, or maps of them, for the set encoder's constants; None without a set encoder."""

    def standardise(self, learner: Learner) -> None:
        """Recompute the set encoder's constants, so that embeddings stay centred after a step."""
        if isinstance(learner, FilmLearner) and self.reference is not None:
            learner.set_encoder.standardise(self.reference)

    def fingerprint(self) -> str:
        """Return a hash of the file names, their classes, and the number of readable files."""
        digest = hashlib.sha256()
        for folder in self.folders:
            names = [str(path).replace(str(folder.root), "") for path in folder.paths]
            digest.update(repr((folder.name, folder.class_names, folder.labels, names)).encode())
        for pools in (self.train.pools, self.validation.pools):
            digest.update(repr([(pool.name, pool.class_names) for pool in pools]).encode())
        digest.update(repr([self.train.images, len(self.train.unreadable)]).encode())
        return digest.hexdigest()[:16]


def facts(config: MetaTrainConfig, where: torch.device) -> dict[str, Any]:
    """Return the facts that must be the same on all ranks, data aside."""
    flags = {flag(name): value for name, value in asdict(config).items()}
    del flags["--save-every"], flags["--micro-batch"]
    return {"fewshot-lite": __version__, "torch": torch.__version__, "device": where.type} | flags


def prepare(
    data: Path,
    config: MetaTrainConfig,
    where: torch.device,
    *,
    validate: Path | None = None,
    cache: Cache | None = None,
    report: Report | None = None,
) -> Setup:
    """Open the data and build the learner; arguments as for `meta_train`.

    Raises:
        UsageError, FewshotError: invalid configuration or data.
    """
    if validate is not None and not config.validate_every:
        raise UsageError(f"--validate {validate}: say how often with --validate-every.")
    check_tf32(where, config.tf32)
    folders = scan_data_sets(data)
    for name in ("no_flip", "tracks", "rotate"):
        check_sets(folders, data, flag(name), getattr(config, name))
    learner, source = _make_learner(config, where)
    if isinstance(learner, GradientLearner) and config.gradient == "lite":
        check_subset(learner, config.h, MetaTrainConfig.h)
    make_optimizer(learner, config)  # raises for invalid settings before photos are read
    if config.unseen_only:
        seen = source.get("pretrained", {}).get("classes")
        folders = [unseen_classes(folder, seen) for folder in folders]
    held_out: Sequence[LabelledImages] = []
    if validate is not None or has_validation_sets(data):
        held_out = scan_data_sets(validate or data, "validation") if config.validate_every else []
    elif config.validate_every:
        folders, held_out = hold_out_classes(folders, config.min_way)
    size = learner.backbone.image_size
    train = TrainingTasks(folders, config, size, report, cache)
    validation = ValidationTasks(held_out, config, size, report, cache)
    learner.to(where).to(memory_format=torch.channels_last)
    cast = cast_for(learner.backbone, where, config.precision)
    return Setup(
        learner,
        size,
        source,
        train,
        validation,
        folders=[*folders, *held_out],
        where=where,
        passes=Passes(config.micro_batch or pick_micro_batch(where, size), cast),
        reference=_reference(learner, train, where),
    )


def check_sets(
    folders: Sequence[LabelledImages], data: Path, flag: str, names: Sequence[str]
) -> None:
    """Raise UsageError if a name given to a flag is not that of a data set."""
    unknown = set(names) - {folder.name for folder in folders}
    if unknown:
        raise UsageError(f"{flag} {min(unknown)}: there is no such data set in {data}.")


def _make_learner(config: MetaTrainConfig, where: torch.device) -> tuple[Learner, dict[str, Any]]:
    """Return the learner, with random weights drawn from the seed, and its backbone's origin."""
    backbone, source = load_backbone(
        config.backbone, config.weights, config.image_size, seed=config.seed
    )
    check_image_size(backbone, backbone.image_size)
    if config.compile:
        compile_network(backbone.network, where)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return make_learner(config.learner, backbone, _hyperparameters(config)), source


def _hyperparameters(config: MetaTrainConfig) -> dict[str, Any]:
    """Return the learner's arguments that are set."""
    names = ["backbone_lr", "metric", "inner_steps", "inner_lr", "inner_head", "pattern"]
    names += ["film_stages", "lam", "cg_steps", "inner_solver", "curvature", "statistics"]
    names += ["film_layers"] if config.learner in ("simple-cnaps", "cnaps") else []
    names += ["root", "fixed_temperature"] if config.learner == "simple-cnaps" else []
    arguments = {name: getattr(config, name) for name in names if getattr(config, name) is not None}
    if config.inner_head == "learned":
        arguments["way"] = config.max_way
    if config.layer_rates:
        arguments["layer_rates"] = True
    if config.learner in BY_GRADIENT and config.weights == "none":
        arguments.setdefault("statistics", "support")  # random weights have no running statistics
    return arguments


def _reference(learner: Learner, train: TrainingTasks, where: torch.device) -> torch.Tensor | None:
    """Return evenly spaced support images of the first tasks, as the set encoder reads them."""
    if not isinstance(learner, FilmLearner):
        return None
    images = torch.cat([train.task(number).support for number in range(_REFERENCE_TASKS)])
    spaced = torch.linspace(0, len(images) - 1, min(len(images), _REFERENCE_IMAGES)).long()
    return lower_maps_of(learner, images[spaced].to(where))


def check_image_size(backbone: Backbone, size: int, flag: str = "--image-size") -> None:
    """Raise UsageError if the network cannot process one image of this size."""
    try:
        with torch.no_grad():
            backbone.eval()(torch.zeros(1, 3, size, size))
    except (AssertionError, RuntimeError, ValueError) as error:
        reason = first_line(error)
        raise UsageError(f"{flag} {size}: {backbone.name} cannot take it ({reason}).") from None


def without_paths(config: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration to be stored in a file, with the folder of `weights` removed."""
    return config | {"weights": Path(config["weights"]).name}
