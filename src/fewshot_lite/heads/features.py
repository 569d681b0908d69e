"""What heads do to features before they measure distances."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

#: Length that root features are scaled to, so that β = 1 is neither negligible nor all there is.
_LENGTH = 10.0
#: Keeps the root's slope finite at zero, where features after a ReLU often are.
_EPSILON = 1e-3


def root_features(features: Tensor) -> Tensor:
    """Signed square roots, scaled to length 10: (B, d) to (B, d), float32 or better.

    Square roots of histogram-like features make distances care less for the few largest of them
    (Hellinger distance; Arandjelović & Zisserman 2012, "RootSIFT").
    """
    features = features.to(torch.promote_types(features.dtype, torch.float32))
    roots = features.sign() * ((features.abs() + _EPSILON).sqrt() - _EPSILON**0.5)
    return _LENGTH * F.normalize(roots, dim=1)
