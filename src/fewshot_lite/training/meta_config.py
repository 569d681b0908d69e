"""What meta-training depends on besides the images; checked without importing torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import get_args

from fewshot_lite.core.config import (
    HUGE,
    MOST_INNER_STEPS,
    Gradient,
    InnerHead,
    InnerSolver,
    Metric,
    NormStatistics,
    OptimizerName,
    Pooling,
    Precision,
    Sampling,
    Schedule,
    check_not_negative,
    check_positive,
    check_seed,
    flag,
)
from fewshot_lite.core.errors import UsageError

#: Learners that adapt by gradient steps.
BY_GRADIENT = ("maml", "fomaml", "imaml")
_WITH_FILM = ("simple-cnaps", "cnaps")
#: Which learners take what others do not.
_TAKERS = {
    "metric": ("protonets",),
    "inner_steps": BY_GRADIENT,
    "inner_lr": BY_GRADIENT,
    "inner_head": BY_GRADIENT,
    "statistics": BY_GRADIENT,
    "pattern": BY_GRADIENT,
    "vectorise": BY_GRADIENT,
    "lam": ("imaml",),
    "cg_steps": ("imaml",),
    "inner_solver": ("imaml",),
}


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
    inner_steps: int | None = None
    """T, of the learners that adapt by gradient, as are the next ones; None is the learner's."""
    inner_lr: float | None = None
    """α."""
    inner_head: InnerHead | None = None
    """Where the head stands before the first step: at class means, or learned for one way."""
    statistics: NormStatistics | None = None
    """What BatchNorm normalises by; None: the support set's where weights are random, and else the
    running statistics that came with them."""
    pattern: str | None = None
    """Which layers are updated, e.g. "00011"; None for all."""
    lam: float | None = None
    """λ of iMAML."""
    cg_steps: int | None = None
    """Of iMAML's meta-gradient and Newton steps."""
    inner_solver: InnerSolver | None = None
    """Of iMAML."""
    vectorise: bool = False
    """All tasks of a step at once, by vmap; they must have one shape."""
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
    pooling: Pooling = "mean"
    """What is kept of each channel of the backbone's last map."""
    min_way: int = 5
    max_way: int = 20
    max_support: int = 100
    max_shot: int = 20
    shot: int | None = None
    """Exactly so many support images of each class, and `queries` query images; None: uneven."""
    queries: int = 10
    """Most query images of a class."""
    tasks: int = 2000
    tasks_per_step: int = 8
    lr: float = 1e-3
    """Peak learning rate."""
    schedule: Schedule = "cosine"
    """After the warm-up: a cosine to 0, or constant."""
    warmup: float = 0.05
    """The learning rate grows linearly at first: over this share of the tasks, or from 1 on over
    this many tasks; 0 for none."""
    optimizer: OptimizerName = "adam"
    weight_decay: float | None = None
    """Of adamw, on matrices and kernels alone; None is 0.01."""
    lr_factor: dict[str, float] = field(default_factory=dict)
    """Factors on the learning rates of groups of parameters, by name: set-encoder, film, head,
    backbone, as far as the learner has them."""
    clip_norm: float | None = None
    """Most that the norm of a step's gradient may be; longer ones are shortened to it."""
    ema: float | None = None
    """Decay of an exponential average of the weights, which then is what is validated and saved."""
    penalty: float = 0.001
    """Weight of the FiLM penalty."""
    shifts: float = 0.5
    """Share of tasks whose images are all shifted alike: grey, inverted, other colours."""
    instances: float = 0.0
    """Share of tasks whose classes are single images, told apart by their views; `rotate` does not
    turn them."""
    augment: bool = True
    """Random crops, flips and colours."""
    rotate: tuple[str, ...] = ()
    """Data sets whose classes, turned by quarter turns, are other classes (characters)."""
    unseen_only: bool = False
    """Leave out the classes that the backbone was pre-trained on."""
    no_flip: tuple[str, ...] = ()
    """Data sets whose images may not be mirrored, by folder name."""
    tracks: tuple[str, ...] = ()
    """Data sets with files named TRACK_FRAME; a track stays on one side of a task."""
    validate_every: int = 0
    """Tasks between validations; 0 for none."""
    patience: int = 0
    """The run ends after this many validations in a row that were not the best; 0 for never."""
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
            patience=self.patience,
            penalty=self.penalty,
            warmup=self.warmup,
            weight_decay=self.weight_decay or 0,
            backbone_lr=0 if self.backbone_lr is None else self.backbone_lr,
        )
        self._check_optimisation()
        for name, takers in _TAKERS.items():
            value = getattr(self, name)
            if value not in (None, False) and self.learner not in takers:
                raise UsageError(
                    f"{flag(name)}{'' if value is True else f' {value}'}: must be left out with "
                    f"--learner {self.learner}; only "
                    f"{' and '.join(takers)} {'has' if len(takers) == 1 else 'have'} it."
                )
        self._check_inner()
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
        if self.pooling not in get_args(Pooling):
            raise UsageError(f"--pooling {self.pooling}: must be mean or max.")
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
        if not 0 <= self.instances <= 1:
            raise UsageError(f"--instances {self.instances}: must be between 0 and 1.")
        if self.instances and not self.augment:
            raise UsageError(
                "--no-augment: must be left out with --instances, whose tasks are made of views."
            )

    def _check_optimisation(self) -> None:
        if self.schedule not in get_args(Schedule):
            raise UsageError(f"--schedule {self.schedule}: must be cosine or constant.")
        if self.optimizer not in get_args(OptimizerName):
            raise UsageError(f"--optimizer {self.optimizer}: must be adam or adamw.")
        if self.warmup >= 1 and self.warmup > self.tasks:
            raise UsageError(f"--warmup {self.warmup}: must be at most --tasks {self.tasks}.")
        if self.weight_decay is not None and self.optimizer != "adamw":
            raise UsageError(
                f"--weight-decay {self.weight_decay}: must be left out with --optimizer "
                f"{self.optimizer}; adamw is the one that decays weights."
            )
        for name, factor in self.lr_factor.items():
            if not 0 <= factor <= HUGE:
                raise UsageError(
                    f"--lr-factor {name}={factor}: must be 0 or more, and at most a billion."
                )
        if self.clip_norm is not None:
            check_positive(clip_norm=self.clip_norm)
        if self.ema is not None and not 0 < self.ema < 1:
            raise UsageError(f"--ema {self.ema}: must be between 0 and 1, e.g. 0.999.")
        if self.patience and not self.validate_every:
            raise UsageError(
                f"--patience {self.patience}: must be left out without --validate-every, whose "
                "results it waits for."
            )

    def _check_inner(self) -> None:
        """What has to do with learners that adapt by gradient."""
        for name in ("inner_steps", "cg_steps"):
            if (getattr(self, name) or 0) > MOST_INNER_STEPS:
                raise UsageError(
                    f"{flag(name)} {getattr(self, name)}: must be at most {MOST_INNER_STEPS}."
                )
        check_positive(
            inner_steps=1 if self.inner_steps is None else self.inner_steps,
            inner_lr=1 if self.inner_lr is None else self.inner_lr,
            lam=1 if self.lam is None else self.lam,
            cg_steps=1 if self.cg_steps is None else self.cg_steps,
            shot=1 if self.shot is None else self.shot,
        )
        if self.inner_head == "learned" and self.min_way != self.max_way:
            raise UsageError(
                f"--inner-head learned: serves one way, but --min-way is {self.min_way} and "
                f"--max-way {self.max_way}. Make them equal, or use --inner-head means."
            )
        if self.vectorise and (self.shot is None or self.min_way != self.max_way):
            raise UsageError(
                "--vectorise: needs tasks of one shape. Give --shot, and --min-way equal to "
                "--max-way."
            )
        if self.vectorise and (self.gradient != "lite" or self.inner_solver == "hessian-free"):
            raise UsageError(
                "--vectorise: must be left out with --gradient full or small-task and with "
                "--inner-solver hessian-free."
            )
        if self.shot is not None and self.shot * self.max_way > self.max_support:
            raise UsageError(
                f"--shot {self.shot}: {self.max_way} classes make {self.shot * self.max_way} "
                f"support images, more than --max-support {self.max_support}."
            )
        if self.shot is not None and self.max_shot != MetaTrainConfig.max_shot:
            raise UsageError(
                f"--max-shot {self.max_shot}: must be left out with --shot, which says how many."
            )
        if self.penalty != MetaTrainConfig.penalty and self.learner not in _WITH_FILM:
            raise UsageError(
                f"--penalty {self.penalty}: must be left out with --learner {self.learner}, which "
                "has no FiLM."
            )
        if self.learner not in BY_GRADIENT:
            return
        if self.scales != (1,):
            raise UsageError(f"--scales: must be left out with --learner {self.learner}.")
        if self.precision == "bfloat16":
            raise UsageError(
                f"--precision bfloat16: must be left out with --learner {self.learner}, whose "
                "second derivatives need float32."
            )
        if self.compile:
            raise UsageError(
                f"--compile: must be left out with --learner {self.learner}; compiled kernels have "
                "no second derivatives."
            )
        if self.sampling != "uniform":
            raise UsageError(
                f"--sampling {self.sampling}: must be left out with --learner {self.learner}."
            )
        if self.h not in (40, None) and self.learner != "maml" and self.gradient == "lite":
            raise UsageError(
                f"--h {self.h}: must be left out with --learner {self.learner}, which looks at all "
                "support images, in micro-batches; of part of them its gradient would be biased."
            )
        if self.gradient == "full" and self.learner == "fomaml":
            raise UsageError("--gradient full: must be left out with fomaml; it would be maml.")
        if self.gradient == "full" and self.inner_solver == "hessian-free":
            raise UsageError(
                "--gradient full: must be left out with --inner-solver hessian-free, whose line "
                "search has no derivative."
            )


_PAPER = MetaTrainConfig(
    backbone="efficientnet_b0",
    weights="default",
    image_size=224,
    max_way=50,
    max_support=500,
    max_shot=100,
    tasks=10_000,
    tasks_per_step=16,
    schedule="constant",
    warmup=0.0,
    shifts=0.0,
)
#: What `--preset` takes. "paper" is Bronskill et al. 2021, appendix: Simple CNAPs with LITE.
PRESETS = {"default": MetaTrainConfig(), "paper": _PAPER}
