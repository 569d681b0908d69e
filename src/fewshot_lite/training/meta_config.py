"""Configuration of meta-training; checked without importing torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from fewshot_lite.core.config import (
    COUNT,
    IMAGE_SIZE,
    MOST_INNER_STEPS,
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    Curvature,
    FilmLayers,
    Gradient,
    InnerHead,
    InnerSolver,
    Limits,
    Metric,
    NormStatistics,
    OptimizerName,
    Precision,
    Sampling,
    Schedule,
    check_seed,
    check_settings,
    setting,
)
from fewshot_lite.core.errors import UsageError
from fewshot_lite.training.meta_conflicts import BY_GRADIENT as BY_GRADIENT
from fewshot_lite.training.meta_conflicts import conflicts, gradient_conflicts

_GRADIENT_LEARNERS = ("learner", BY_GRADIENT)
_IMAML = ("learner", ("imaml",))
_SIMPLE_CNAPS = ("learner", ("simple-cnaps",))
_WITH_FILM = ("learner", ("simple-cnaps", "cnaps"))
_STEPS = Limits(1, MOST_INNER_STEPS)

#: Headings of the help panels of training commands.
MODEL, DATA, OPTIMISATION, VALIDATION = "Model", "Data", "Optimisation", "Validation"
OUTPUT, DEVICES = "Output", "Devices, distributed"


@dataclass(frozen=True)
class MetaTrainConfig:
    """Settings of a run; the fields are flags of `meta-train`."""

    PANELS: ClassVar[Mapping[str, str]] = {
        "learner": MODEL,
        "rotate": DATA,
        "min_way": "Episodes",
        "h": "LITE",
        "inner_steps": "Gradient learners",
        "tasks": OPTIMISATION,
        "validate_every": VALIDATION,
        "save_every": OUTPUT,
        "micro_batch": DEVICES,
    }

    learner: str = setting(
        "simple-cnaps",
        "The learner: simple-cnaps, cnaps, protonets, maml, fomaml or imaml.",
        metavar="NAME",
    )
    backbone: str | None = setting(
        None,
        "The backbone: efficientnet_lite0, one of torchvision's networks, timm:NAME, or conv4.",
        metavar="NAME",
        shown="what the weights are of, else resnet18",
    )
    weights: str = setting(
        "none",
        "Weights of the backbone: the published, random ones, or a file that `pretrain` wrote.",
        metavar="default|none|FILE",
    )
    image_size: int | None = setting(
        None, "Side of the images in pixels.", IMAGE_SIZE, shown="the backbone's own"
    )
    film_stages: int | None = setting(
        None,
        "FiLM acts on so many stages of the backbone from the top; what lies below is computed "
        "once an image. Learners by gradient then adapt FiLM and the head alone.",
        COUNT,
        shown="all of the backbone",
        only=("learner", ("simple-cnaps", "cnaps", *BY_GRADIENT)),
    )
    metric: Metric | None = setting(
        None,
        "Distance of ProtoNets to the class means.",
        shown="euclidean",
        only=("learner", ("protonets",)),
    )
    root: bool = setting(
        True,
        "Let the Mahalanobis head measure in signed square roots of the features.",
        only=_SIMPLE_CNAPS,
    )
    fixed_temperature: bool = setting(
        False, "Fix τ = 1 and β = 1 of the Mahalanobis head.", only=_SIMPLE_CNAPS
    )
    film_layers: FilmLayers = setting(
        "all",
        "Norm layers that FiLM modulates: all, or those after depthwise convolutions.",
        only=_WITH_FILM,
    )
    rotate: tuple[str, ...] = setting(
        (),
        "A data set whose classes are other classes when turned by quarter turns (characters); "
        "can be repeated.",
        metavar="NAME",
    )
    no_flip: tuple[str, ...] = setting(
        (), "A data set whose images are not mirrored; can be repeated.", metavar="NAME"
    )
    tracks: tuple[str, ...] = setting(
        (),
        "A data set whose files are named TRACK_FRAME: a track is never on both sides of a task; "
        "can be repeated.",
        metavar="NAME",
    )
    unseen_only: bool = setting(
        False, "Leave out the classes that the backbone was pre-trained on."
    )
    augment: bool = setting(True, "Augment by random crops, flips and colours.")
    shifts: float = setting(
        0.5,
        "Share of tasks whose images are all shifted to another domain (grey, inverted, …).",
        SHARE,
    )
    instances: float = setting(
        0.0, "Share of tasks whose classes are single photos, told apart by their views.", SHARE
    )
    min_way: int = setting(5, "Fewest classes of a task.", Limits(2))
    max_way: int = setting(20, "Most classes of a task.", Limits(2))
    shot: int | None = setting(
        None,
        "Exactly this many support images for each class, and --queries query images.",
        COUNT,
        shown="uneven",
    )
    max_shot: int = setting(20, "Most support images of a class.", COUNT)
    max_support: int = setting(100, "Most support images of a task.", COUNT)
    queries: int = setting(10, "Most query images of a class.", COUNT)
    h: int | None = setting(
        40, "H, the number of support images that are back-propagated.", COUNT, word="all"
    )
    sampling: Sampling = setting(
        "uniform", "The sampling of the H support images; informed and balanced lower the noise."
    )
    gradient: Gradient = setting(
        "lite", "LITE, or a baseline: one graph of all images (full), or tasks of H support images."
    )
    inner_steps: int | None = setting(
        None,
        "T, the number of gradient steps on the support set.",
        _STEPS,
        shown="5; 16 for imaml",
        only=_GRADIENT_LEARNERS,
    )
    inner_lr: float | None = setting(
        None, "The learning rate α of these steps.", POSITIVE, shown="0.1", only=_GRADIENT_LEARNERS
    )
    inner_head: InnerHead | None = setting(
        None,
        "Whether the head starts at the class means, or is learned for one way.",
        shown="means",
        only=_GRADIENT_LEARNERS,
    )
    statistics: NormStatistics | None = setting(
        None,
        "Statistics that BatchNorm normalises by: its running ones, or the support set's.",
        shown="support for random weights, else running",
        only=_GRADIENT_LEARNERS,
    )
    pattern: str | None = setting(
        None,
        "Lambda pattern: a digit for each layer, 1 if it adapts; the head is the last.",
        metavar="0011",
        shown="all layers",
        only=_GRADIENT_LEARNERS,
    )
    layer_rates: bool = setting(
        False,
        "Learn α of each layer, starting from --inner-lr.",
        only=("learner", ("maml", "fomaml")),
    )
    lam: float | None = setting(
        None, "The weight λ of the proximal term of iMAML.", POSITIVE, shown="2", only=_IMAML
    )
    cg_steps: int | None = setting(
        None, "Steps of conjugate gradients of iMAML.", _STEPS, shown="5", only=_IMAML
    )
    inner_solver: InnerSolver | None = setting(
        None, "Inner solver of iMAML: gradient descent, or Newton steps.", shown="gd", only=_IMAML
    )
    curvature: Curvature | None = setting(
        None,
        "Second derivatives of iMAML: the Hessian, or Gauss-Newton's matrix, never indefinite.",
        shown="hessian",
        only=_IMAML,
    )
    vectorise: bool = setting(
        False,
        "Compute all tasks of a step at once with vmap; they must have one shape.",
        only=_GRADIENT_LEARNERS,
    )
    tasks: int = setting(2000, "Number of tasks of the run.", COUNT)
    tasks_per_step: int = setting(8, "Tasks whose mean gradient is a step.", COUNT)
    lr: float = setting(1e-3, "Peak learning rate.", POSITIVE)
    backbone_lr: float | None = setting(
        None,
        "Learning rate of the backbone's own weights as a share of --lr; 0 freezes them.",
        NOT_NEGATIVE,
        shown="the learner's",
    )
    lr_factor: dict[str, float] = setting(
        {},
        "Factor on the learning rate of a group: set-encoder, film, head, backbone or rates.",
        NOT_NEGATIVE,
        metavar="GROUP=FACTOR",
    )
    schedule: Schedule = setting(
        "cosine", "Learning rate after the warm-up: a cosine to 0, or constant."
    )
    warmup: float = setting(
        0.05,
        "Linear warm-up over this share of the tasks, or, from 1 on, over this many tasks.",
        NOT_NEGATIVE,
    )
    optimizer: OptimizerName = setting("adam", "The optimiser.")
    weight_decay: float | None = setting(
        None,
        "Weight decay for AdamW, on matrices and kernels.",
        NOT_NEGATIVE,
        shown="0.01",
        only=("optimizer", ("adamw",)),
    )
    clip_norm: float | None = setting(
        None,
        "Largest norm of the gradient of a step; longer gradients are scaled down to it.",
        POSITIVE,
        shown="no limit",
    )
    ema: float | None = setting(
        None,
        "Validate and save an exponential average of the weights with this decay.",
        Limits(0, 1, open_low=True, open_high=True),
        metavar="DECAY",
        shown="off",
    )
    penalty: float = setting(
        0.001, "Weight of the L2 penalty on FiLM.", NOT_NEGATIVE, only=_WITH_FILM
    )
    seed: int = setting(0, "Seed of all random numbers.")
    validate_every: int = setting(
        0, "Tasks between validations; the best weights are kept. 0 for none.", NOT_NEGATIVE
    )
    patience: int = setting(
        0,
        "End after this many validations in a row that were not the best; 0 for never.",
        NOT_NEGATIVE,
    )
    save_every: int = setting(200, "Tasks between checkpoints; what a crash costs at most.", COUNT)
    micro_batch: int | None = setting(
        None,
        "Images in a pass; only rounding depends on it.",
        COUNT,
        shown="by image size and device",
    )
    precision: Precision = setting(
        "auto",
        "Precision of the networks: float32, bfloat16, or auto for bfloat16 where it is faster.",
        metavar="NAME",
    )
    tf32: bool | None = setting(
        None,
        "On CUDA, compute float32 convolutions in TF32; heads never are.",
        shown="torch's own, on",
    )
    compile: bool = setting(False, "Compile the backbone with torch.compile.")

    def check(self) -> None:
        """Raise UsageError for invalid or conflicting values."""
        check_seed(self.seed)
        check_settings(self)
        for message in (*conflicts(self), *gradient_conflicts(self)):
            raise UsageError(message)


_PAPER = MetaTrainConfig(
    backbone="efficientnet_b0",
    weights="default",
    image_size=224,
    root=False,
    fixed_temperature=True,
    film_layers="depthwise",
    max_way=50,
    max_support=500,
    max_shot=100,
    tasks=10_000,
    tasks_per_step=16,
    schedule="constant",
    warmup=0.0,
    shifts=0.0,
)
#: The values of `--preset`. "paper" is Bronskill et al. 2021, appendix: Simple CNAPs with LITE and
#: the plain Mahalanobis head (τ = 1, β = 1) and FiLM on 18 layers. It still differs in the set
#: encoder, which reads smaller images and has no batch statistics; see `networks.set_encoder`.
PRESETS = {"default": MetaTrainConfig(), "paper": _PAPER}
