"""Check that an exported file answers as the model it was made from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from fewshot_lite.core.errors import FewshotError
from fewshot_lite.personal.export.program import PixelProgram

#: Largest difference of a probability.
PROBABILITY_TOLERANCE = 1e-4
#: Largest difference of strangeness, as a share of it (of 1 where it is less).
STRANGENESS_TOLERANCE = 1e-4

_Pixels = npt.NDArray[np.uint8]
_Answers = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Parity:
    """The largest differences found."""

    images: int
    probability: float
    strangeness: float
    """The largest relative difference of the novelty score."""


def probe_images(size: int) -> _Pixels:
    """Noise at every scale, black and white: uint8 (B, size, size, 3), always the same."""
    noise = np.random.default_rng(0)
    images = []
    for side in (2, 4, 8, 16, 32, size):  # coarse noise enlarged is as smooth as photos are
        for _ in range(3):
            spots = Image.fromarray(noise.integers(0, 256, (side, side, 3), np.uint8))
            images.append(np.asarray(spots.resize((size, size), Image.Resampling.BICUBIC)))
    plain = [np.full((size, size, 3), value, np.uint8) for value in (0, 255)]
    return np.stack([*images, *plain])


def check_parity(program: PixelProgram, run: Callable[[_Pixels], _Answers], size: int) -> Parity:
    """Compare an exported file with the model, on all probe images at once and on one alone.

    Args:
        program: the model.
        run: what the file gives for pixels (B, S, S, 3).
        size: S.

    Raises:
        FewshotError: it differs by more than the tolerances.
    """
    images = probe_images(size)
    with torch.no_grad():
        probabilities, strangeness = (t.numpy() for t in program(torch.from_numpy(images)))
    found = Parity(len(images), 0.0, 0.0)
    for count in (len(images), 1):
        got = run(images[:count])
        difference = np.abs(got[0] - probabilities[:count]).max()
        expected = strangeness[:count]
        share = (np.abs(got[1] - expected) / np.maximum(expected, 1)).max()
        found = Parity(
            len(images),
            float(np.maximum(found.probability, difference)),
            float(np.maximum(found.strangeness, share)),
        )
    within = (  # NaN is not
        found.probability <= PROBABILITY_TOLERANCE and found.strangeness <= STRANGENESS_TOLERANCE
    )
    if not within:
        raise FewshotError(
            "The exported model does not answer as the one it was made from: probabilities differ "
            f"by up to {found.probability:.1e} ({PROBABILITY_TOLERANCE:.0e} is allowed), "
            f"strangeness by {found.strangeness:.1e} of it ({STRANGENESS_TOLERANCE:.0e}). "
            "Nothing was written."
        )
    return found
