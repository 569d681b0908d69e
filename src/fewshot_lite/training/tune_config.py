"""Configuration of tuning; checked without importing torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from fewshot_lite.core.config import (
    COUNT,
    NOT_NEGATIVE,
    POSITIVE,
    Limits,
    Precision,
    check_seed,
    check_settings,
    same_setting,
    setting,
)
from fewshot_lite.core.errors import UsageError
from fewshot_lite.training.meta_config import DATA, DEVICES, MODEL, OPTIMISATION, MetaTrainConfig
from fewshot_lite.training.pretrain_config import PretrainConfig


@dataclass(frozen=True)
class TuneConfig:
    """Settings of a run; the fields are flags of `tune`."""

    PANELS: ClassVar[Mapping[str, str]] = {
        "backbone": MODEL,
        "leave_out": DATA,
        "steps": OPTIMISATION,
        "precision": DEVICES,
    }

    backbone: str | None = same_setting(MetaTrainConfig, "backbone")
    weights: str = setting("default", "Weights to start from.", metavar="default|FILE")
    anchor: str | None = setting(
        None,
        "Weights to stay near: --hold holds features to theirs, --strength is counted from them.",
        metavar="default|FILE",
        shown="those it starts from",
    )
    image_size: int | None = same_setting(MetaTrainConfig, "image_size")
    stages: int = setting(
        9,
        "Stages of the backbone, from the top, that learn; what lies below is computed once.",
        COUNT,
    )
    strength: float = setting(
        1.0,
        "Share of the way from the anchor's weights to the tuned ones that is written.",
        Limits(0, 1, open_low=True),
    )
    leave_out: float = same_setting(PretrainConfig, "leave_out")
    no_flip: tuple[str, ...] = same_setting(MetaTrainConfig, "no_flip")
    views: int = setting(
        2, "Augmented views of each image, beside the image itself.", Limits(0, 64)
    )
    steps: int = setting(1400, "Number of steps.", COUNT)
    sets_per_step: int = setting(4, "Data sets that a step draws images from.", COUNT)
    batch_size: int = setting(12, "Images from each of them.", COUNT)
    lr: float = setting(
        5e-4,
        "Peak learning rate of AdamW: a twentieth of the steps of warm-up, then a cosine to 0.",
        POSITIVE,
    )
    weight_decay: float = setting(0.0, "Weight decay.", NOT_NEGATIVE)
    label_smoothing: float = same_setting(PretrainConfig, "label_smoothing")
    hold: float = setting(
        0.0,
        "Weight of 1 - cos between centred features and the anchor's, beside the cross-entropy.",
        NOT_NEGATIVE,
    )
    hold_set: tuple[str, ...] = setting(
        (), "A data set that --hold is for; can be repeated.", metavar="NAME", shown="all"
    )
    seed: int = same_setting(MetaTrainConfig, "seed")
    precision: Precision = same_setting(MetaTrainConfig, "precision")

    def check(self) -> None:
        """Raise UsageError for invalid or conflicting values."""
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
