"""What pre-training depends on besides the images; checked without importing torch."""

from __future__ import annotations

from dataclasses import dataclass

from fewshot_lite.core.config import Precision, check_not_negative, check_positive, check_seed
from fewshot_lite.core.errors import UsageError


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
