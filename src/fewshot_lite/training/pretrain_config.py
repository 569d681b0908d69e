"""Configuration of pre-training; checked without importing torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from fewshot_lite.core.config import (
    COUNT,
    IMAGE_SIZE,
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

_PART = Limits(0, 1, open_high=True)


@dataclass(frozen=True)
class PretrainConfig:
    """Settings of a run; the fields are flags of `pretrain`."""

    PANELS: ClassVar[Mapping[str, str]] = {
        "backbone": MODEL,
        "leave_out": DATA,
        "epochs": OPTIMISATION,
        "precision": DEVICES,
    }

    backbone: str | None = same_setting(MetaTrainConfig, "backbone")
    weights: str = setting("none", "Weights to start from.", metavar="default|none|FILE")
    image_size: int = setting(96, "Side of the images in the last epochs, in pixels.", IMAGE_SIZE)
    min_image_size: int = setting(
        64, "Side of the images in the first epochs, in pixels.", IMAGE_SIZE
    )
    mixed_sizes: bool = setting(
        False, "Draw the image size of each step instead of growing it over the epochs."
    )
    leave_out: float = setting(
        0.0, "Share of the classes that are kept for `meta-train --unseen-only`.", _PART
    )
    no_flip: tuple[str, ...] = same_setting(MetaTrainConfig, "no_flip")
    epochs: int = setting(16, "Number of epochs.", COUNT)
    batch_size: int = setting(128, "Images of a step.", Limits(2))
    lr: float = setting(
        0.1, "Peak learning rate of SGD: one epoch of warm-up, then a cosine to 0.", POSITIVE
    )
    weight_decay: float = setting(5e-4, "Weight decay.", NOT_NEGATIVE)
    label_smoothing: float = setting(0.1, "Label smoothing.", _PART)
    seed: int = same_setting(MetaTrainConfig, "seed")
    precision: Precision = same_setting(MetaTrainConfig, "precision")

    def check(self) -> None:
        """Raise UsageError for invalid or conflicting values."""
        check_seed(self.seed)
        check_settings(self)
        if self.min_image_size > self.image_size:
            raise UsageError(
                f"--min-image-size {self.min_image_size}: must be at most --image-size "
                f"{self.image_size}."
            )
