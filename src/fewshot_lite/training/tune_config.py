"""Settings of tuning besides the images; checked without importing torch."""

from __future__ import annotations

from dataclasses import dataclass

from fewshot_lite.core.config import (
    COUNT,
    IMAGE_SIZE,
    NOT_NEGATIVE,
    POSITIVE,
    Limits,
    Precision,
    check_seed,
    check_settings,
    setting,
)
from fewshot_lite.core.errors import UsageError
from fewshot_lite.training.meta_config import DATA, DEVICES, MODEL, OPTIMISATION

#: From 0 to below 1.
_PART = Limits(0, 1, open_high=True)


@dataclass(frozen=True)
class TuneConfig:
    """All that a run depends on besides the images; fields are flags of `tune`."""

    backbone: str | None = setting(
        None,
        "efficientnet_lite0, one of torchvision's networks, timm:NAME, or conv4.",
        MODEL,
        metavar="NAME",
        shown="what the weights are of, else resnet18",
    )
    weights: str = setting("default", "Weights to start from.", MODEL, metavar="default|FILE")
    anchor: str | None = setting(
        None,
        "Weights to stay near: --hold holds features to theirs, --strength is counted from them.",
        MODEL,
        metavar="default|FILE",
        shown="those it starts from",
    )
    image_size: int | None = setting(
        None, "Side of the images in pixels.", MODEL, IMAGE_SIZE, shown="the backbone's own"
    )
    stages: int = setting(
        9,
        "Stages of the backbone, from the top, that learn; what lies below is computed once.",
        MODEL,
        COUNT,
    )
    strength: float = setting(
        1.0,
        "Share of the way from the anchor's weights to the tuned ones that is written.",
        MODEL,
        Limits(0, 1, open_low=True),
    )
    leave_out: float = setting(
        0.0, "Share of the classes that are kept for `meta-train --unseen-only`.", DATA, _PART
    )
    no_flip: tuple[str, ...] = setting(
        (), "A data set whose images are not mirrored; can be repeated.", DATA, metavar="NAME"
    )
    views: int = setting(
        2, "Augmented views of each image, beside the image itself.", DATA, Limits(0, 64)
    )
    steps: int = setting(1400, "Number of steps.", OPTIMISATION, COUNT)
    sets_per_step: int = setting(4, "Data sets that a step draws images from.", OPTIMISATION, COUNT)
    batch_size: int = setting(12, "Images from each of them.", OPTIMISATION, COUNT)
    lr: float = setting(
        5e-4,
        "Peak learning rate of AdamW: a twentieth of the steps of warm-up, then a cosine to 0.",
        OPTIMISATION,
        POSITIVE,
    )
    weight_decay: float = setting(0.0, "Weight decay.", OPTIMISATION, NOT_NEGATIVE)
    label_smoothing: float = setting(0.1, "Label smoothing.", OPTIMISATION, _PART)
    hold: float = setting(
        0.0,
        "Weight of 1 - cos between centred features and the anchor's, beside the cross-entropy.",
        OPTIMISATION,
        NOT_NEGATIVE,
    )
    hold_set: tuple[str, ...] = setting(
        (),
        "A data set that --hold is for; can be repeated.",
        OPTIMISATION,
        metavar="NAME",
        shown="all",
    )
    seed: int = setting(0, "Seed of all random numbers.", OPTIMISATION)
    precision: Precision = setting(
        "auto", "Precision of the networks; auto is bfloat16 where that is faster.", DEVICES
    )

    def check(self) -> None:
        """Raise UsageError for values that no run can have."""
        check_seed(self.seed)
        check_settings(self)
        for flag, value in (("--weights", self.weights), ("--anchor", self.anchor)):
            if value == "none":
                raise UsageError(
                    f"{flag} none: tuning starts from trained weights. Give 'default' or a file, "
                    "or train from random ones: fewshot-lite pretrain."
                )
        if self.hold_set and not self.hold:
            raise UsageError(f"--hold-set {self.hold_set[0]}: of no use without --hold.")
