"""What the training runs depend on besides the images; checked without importing torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fewshot_lite.errors import UsageError

Precision = Literal["auto", "float32", "bfloat16"]
Sampling = Literal["uniform", "informed", "balanced"]
Gradient = Literal["lite", "full", "small-task"]
Metric = Literal["euclidean", "cosine"]
#: What a personal model tells classes apart with; see `heads.choice`.
HeadName = Literal["default", "auto", "mahalanobis", "cosine", "euclidean", "linear"]

#: No count, rate or period is larger; torch could not take all that are.
_HUGE = 1e9


@dataclass(frozen=True)
class PretrainConfig:
    """All that a run depends on besides the images."""

    backbone: str | None = None
    """torchvision's name; None takes what `weights` holds, or resnet18."""
    weights: str = "none"
    """Start from: "none", "default" (torchvision's) or a file."""
    image_size: int = 96
    """Side of the images in the last epochs, in pixels; what the backbone is best at."""
    min_image_size: int = 64
    """Side in the first epochs."""
    mixed_sizes: bool = False
    """Draw the side anew for each step, between the two and 32 pixels apart, instead of growing."""
    epochs: int = 16
    batch_size: int = 128
    lr: float = 0.1
    """Peak learning rate (SGD, Nesterov momentum 0.9): one epoch of warm-up, then a cosine to 0."""
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    leave_out: float = 0.0
    """Share of each data set's classes not trained on, for `meta-train --unseen-only`."""
    no_flip: tuple[str, ...] = ()
    """Data sets whose images may not be mirrored (characters, signs), by folder name."""
    precision: Precision = "auto"
    seed: int = 0

    def check(self) -> None:
        """Raise UsageError for values that no run can have."""
        check_positive(epochs=self.epochs, batch_size=self.batch_size, lr=self.lr)
        check_seed(self.seed)
        if self.batch_size < 2:
            raise UsageError(f"--batch-size {self.batch_size}: must be at least 2 for BatchNorm.")
        check_not_negative(weight_decay=self.weight_decay)
        if not 0 <= self.label_smoothing < 1:
            raise UsageError(
                f"--label-smoothing {self.label_smoothing}: must be at least 0 and less than 1."
            )
        if not 16 <= self.min_image_size <= self.image_size <= 1024:
            raise UsageError(
                f"--image-size {self.image_size} and --min-image-size {self.min_image_size}: "
                "must be between 16 and 1024, the smaller one no larger than the other."
            )
        if not 0 <= self.leave_out < 1:
            raise UsageError(f"--leave-out {self.leave_out}: must be at least 0 and less than 1.")


@dataclass(frozen=True)
class MetaTrainConfig:
    """All that a run depends on besides the images."""

    learner: str = "simple-cnaps"
    backbone: str | None = None
    """torchvision's name; None takes what `weights` holds, or resnet18."""
    weights: str = "none"
    """"default" (torchvision's), "none" or a file, e.g. what `pretrain` wrote."""
    backbone_lr: float | None = None
    """Learning rate of the backbone's own weights as a share of `lr`; None is the learner's."""
    metric: Metric | None = None
    """ProtoNets' distance to class means; None is squared Euclidean."""
    h: int | None = 40
    """Support images that are back-propagated; None for all."""
    sampling: Sampling = "uniform"
    gradient: Gradient = "lite"
    """"lite", or what it is compared with: "full" back-propagates all images in one graph,
    "small-task" trains on H support images alone."""
    image_size: int | None = None
    """None takes the pre-trained backbone's, 224 for torchvision's weights, else 96."""
    scales: tuple[int, ...] = (1,)
    """Factors by which images are reduced; the features of all are put side by side."""
    min_way: int = 5
    max_way: int = 20
    max_support: int = 100
    max_shot: int = 20
    queries: int = 10
    """Most query images of a class."""
    tasks: int = 2000
    tasks_per_step: int = 8
    lr: float = 1e-3
    """Adam; short warm-up, then a cosine to 0."""
    penalty: float = 0.001
    """Weight of the FiLM penalty."""
    shifts: float = 0.5
    """Share of tasks whose images are all shifted alike: grey, inverted, other colours."""
    unseen_only: bool = False
    """Leave out the classes that the backbone was pre-trained on."""
    no_flip: tuple[str, ...] = ()
    """Data sets whose images may not be mirrored, by folder name."""
    tracks: tuple[str, ...] = ()
    """Data sets with files named TRACK_FRAME; a track stays on one side of a task."""
    validate_every: int = 0
    """Tasks between validations; 0 for none."""
    save_every: int = 200
    """Tasks between checkpoints; does not change the result."""
    micro_batch: int | None = None
    """Images in a pass; None fits it to the image size and the device. Does not change what is
    learned but for rounding."""
    precision: Precision = "auto"
    tf32: bool | None = None
    """Of convolutions in float32, on CUDA; None is torch's own setting, which is to use it."""
    compile: bool = False
    """Make kernels of the backbone's passes with torch.compile."""
    seed: int = 0

    def check(self) -> None:
        """Raise UsageError for values that no run can have."""
        check_positive(
            tasks=self.tasks,
            tasks_per_step=self.tasks_per_step,
            lr=self.lr,
            queries=self.queries,
            max_shot=self.max_shot,
            micro_batch=1 if self.micro_batch is None else self.micro_batch,
            save_every=self.save_every,
        )
        check_seed(self.seed)
        check_not_negative(
            validate_every=self.validate_every,
            penalty=self.penalty,
            backbone_lr=0 if self.backbone_lr is None else self.backbone_lr,
        )
        if self.metric is not None and self.learner != "protonets":
            raise UsageError(
                f"--metric {self.metric}: must be left out with --learner {self.learner}; "
                "only protonets has one."
            )
        if self.h is not None and self.h < 1:
            raise UsageError(f"--h {self.h}: must be at least 1, or 'all'.")
        if self.sampling != "uniform" and self.gradient != "lite":
            raise UsageError(
                f"--sampling {self.sampling}: must be left out with --gradient {self.gradient}; "
                "only lite draws by what an image does to the loss."
            )
        if self.h is None and self.gradient == "small-task":
            raise UsageError(
                "--h all: must be a number with --gradient small-task, the size of the tasks; "
                "--gradient full trains on whole ones."
            )
        if self.image_size is not None and not 16 <= self.image_size <= 1024:
            raise UsageError(f"--image-size {self.image_size}: must be between 16 and 1024.")
        if not self.scales or len(set(self.scales)) < len(self.scales) or min(self.scales) < 1:
            raise UsageError(
                f"--scales {','.join(map(str, self.scales))}: must be different whole numbers of "
                "at least 1, e.g. 1,2."
            )
        if not 2 <= self.min_way <= self.max_way:
            raise UsageError(
                f"--min-way {self.min_way}, --max-way {self.max_way}: must be at least 2, and the "
                "first no larger than the second."
            )
        if self.max_support < self.max_way:
            raise UsageError(
                f"--max-support {self.max_support}: must be at least --max-way {self.max_way}, "
                "one image per class."
            )
        if not 0 <= self.shifts <= 1:
            raise UsageError(f"--shifts {self.shifts}: must be between 0 and 1.")


def check_positive(**values: float) -> None:
    """Refuse counts and rates that are not positive, by the name of their flag."""
    for name, value in values.items():
        if not 0 < value <= _HUGE:
            raise UsageError(f"{_flag(name)} {value}: must be more than 0, and at most a billion.")


def check_not_negative(**values: float) -> None:
    """Refuse negative weights and periods, by the name of their flag."""
    for name, value in values.items():
        if not 0 <= value <= _HUGE:
            raise UsageError(f"{_flag(name)} {value}: must be 0 or more, and at most a billion.")


def check_workers(workers: int | None) -> None:
    """Refuse numbers of processes that no machine has."""
    if workers is not None and not 0 <= workers <= 1024:
        raise UsageError(f"--workers {workers}: must be between 0 and 1024, or 'auto'.")


def check_seed(seed: int) -> None:
    """Refuse seeds that torch cannot take."""
    if abs(seed) >= 2**63:
        raise UsageError(f"--seed {seed}: must fit in 64 bits.")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
