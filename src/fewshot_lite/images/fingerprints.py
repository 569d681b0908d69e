"""Perceptual fingerprints that match re-saved, resized, brightened or slightly cropped photos.

Two stages, both on grey thumbnails. Low frequencies of a discrete cosine transform, weighted so
that fine detail counts as much as light and shade, are compared by correlation. A crop shifts and
enlarges the rest, so pairs that do not match are first aligned by least squares on one thumbnail's
tangents (shift, scale, contrast): the tangent distance of Simard, LeCun and Denker, "Efficient
Pattern Recognition Using a New Transformation Distance" (NIPS 1992), iterated.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

Floats = npt.NDArray[np.float32]

#: Side of the grey and of the colour thumbnails in pixels.
SIDE, COLOUR_SIDE = 32, 4

#: Least correlation of copies; see docs/benchmarks.md.
SAME = 0.97
#: Least correlation of coarse features of pairs that are compared in full.
_WORTH_A_LOOK = 0.7
#: Least share of the coarse features' energy that the tangents explain, for pairs worth aligning.
_WORTH_MOVING = 0.8
#: Largest root-mean-square difference of the colours (Cb, Cr) of copies, in grey levels.
_COLOURS_APART = 8.0
#: Standard deviation in grey levels below which a photo is too uniform to compare.
_FLAT = 1.5
_COARSE, _FINE = (8, 0.5), (12, 1.0)  # frequencies in each direction, exponent of their weights
#: Largest shifts in pixels and largest change of scale.
_FARTHEST = np.array([0.06 * SIDE, 0.06 * SIDE, 0.08], dtype=np.float32)


class Fingerprints:
    """Fingerprints of N photos, about a kilobyte each; threads may set different rows at once."""

    def __init__(self, number: int) -> None:
        self.grey = np.zeros((number, SIDE, SIDE), dtype=np.uint8)
        self.colour = np.zeros((number, 2, COLOUR_SIDE, COLOUR_SIDE), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self.grey)

    def set(self, row: int, pixels: npt.NDArray[np.uint8]) -> None:
        """Store the fingerprint of one photo, uint8 (S, S, 3)."""
        box = Image.Resampling.BOX
        image = Image.fromarray(pixels).resize((SIDE, SIDE), box).convert("YCbCr")
        self.grey[row] = np.asarray(image)[..., 0]
        small = np.asarray(image.resize((COLOUR_SIDE, COLOUR_SIDE), box))
        self.colour[row] = small[..., 1:].transpose(2, 0, 1)

    def key(self, row: int) -> bytes:
        """Return a key that is equal for photos with equal thumbnails."""
        return bytes(self.grey[row].tobytes() + self.colour[row].tobytes())


def similar_pairs(
    fingerprints: Fingerprints, rows: npt.NDArray[np.int64], *, most: int = 16, chunk: int = 512
) -> list[tuple[int, int, float]]:
    """Find pairs of photos that are copies of one another.

    Rows are compared `chunk` at a time, each in full with its `most` likeliest partners only, so
    memory is linear in the number of photos.

    Args:
        fingerprints: of all photos.
        rows: int64 (M,), the photos to compare.

    Returns:
        Sorted tuples (row, row, correlation) with the smaller row first.
    """
    grey = fingerprints.grey[rows]
    varied = grey.reshape(len(rows), SIDE * SIDE).std(axis=1) >= _FLAT
    rows, grey = rows[varied], grey[varied]
    parts = [grey[start : start + chunk] for start in range(0, max(1, len(grey)), chunk)]
    tangents = np.concatenate([tangents_of(part) for part in parts])
    coarse = _unit(tangents[:, 0])
    pairs: list[tuple[int, int, float]] = []
    for start in range(0, len(rows), chunk):
        likeness = coarse[start : start + chunk] @ coarse[start:].T  # (chunk, M - start)
        first, second = _likeliest(likeness, most)
        first, second = first + start, second + start
        same_colours = _colours_apart(fingerprints, rows[first], rows[second]) <= _COLOURS_APART
        first, second = first[same_colours], second[same_colours]
        for part in range(0, len(first), chunk):
            i, j = first[part : part + chunk], second[part : part + chunk]
            score = similarity(grey, tangents, i, j)
            for k in np.flatnonzero(score >= SAME):
                a, b = sorted((int(rows[i[k]]), int(rows[j[k]])))
                pairs.append((a, b, float(score[k])))
    return sorted(pairs)


def similarity(
    grey: npt.NDArray[np.uint8],
    tangents: Floats,
    i: npt.NDArray[np.int64],
    j: npt.NDArray[np.int64],
) -> Floats:
    """Return the correlation of pairs of thumbnails, aligned where that helps, float32 (P,).

    Args:
        grey: uint8 (M, SIDE, SIDE).
        tangents: `tangents_of(grey)`.
        i: int64 (P,), rows of the first of each pair.
        j: int64 (P,), rows of the second of each pair.
    """
    best = _correlation(grey[i], grey[j])
    for moving, still in ((i, j), (j, i)):
        unlike = np.flatnonzero(best < SAME)
        explained = _fit(tangents[moving[unlike]], tangents[still[unlike], 0])[1]
        worth = unlike[explained >= _WORTH_MOVING]
        if len(worth):
            moved = _moved_onto(grey[moving[worth]], grey[still[worth]])
            best[worth] = np.maximum(best[worth], _correlation(moved, grey[still[worth]]))
    return best


def _likeliest(likeness: Floats, most: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return (rows, columns) of the likeliest pairs above the diagonal, at most `most` per row."""
    height = len(likeness)
    likeness[:, :height][np.tri(height, dtype=bool)] = 0  # the photo itself, and earlier pairs
    if likeness.shape[1] > most:
        columns = np.argpartition(-likeness, most - 1, axis=1)[:, :most]
        values = np.take_along_axis(likeness, columns, axis=1)
    else:
        columns = np.broadcast_to(np.arange(likeness.shape[1]), likeness.shape)
        values = likeness
    row, place = np.nonzero(values >= _WORTH_A_LOOK)
    return row, columns[row, place]


def _colours_apart(
    fingerprints: Fingerprints, i: npt.NDArray[np.int64], j: npt.NDArray[np.int64]
) -> Floats:
    difference = fingerprints.colour[i].astype(np.float32) - fingerprints.colour[j]
    return np.asarray(np.sqrt((difference**2).mean(axis=(1, 2, 3))), dtype=np.float32)


def _cosines(number: int) -> Floats:
    """Return the lowest frequencies of the orthonormal DCT-II of SIDE points, (number, SIDE)."""
    k, x = np.arange(number)[:, None], np.arange(SIDE)
    rows = np.cos(np.pi * k * (2 * x + 1) / (2 * SIDE)) * np.sqrt(2 / SIDE)
    rows[0] /= np.sqrt(2)
    return np.asarray(rows, dtype=np.float32)


def _features(grey: npt.NDArray[np.generic], number: int, exponent: float) -> Floats:
    """Return weighted low frequencies without the mean: (..., SIDE, SIDE) -> (..., number² - 1)."""
    cosines = _cosines(number)
    k = np.arange(number, dtype=np.float32)
    weights = (k[:, None] ** 2 + k**2) ** (exponent / 2)
    values = cosines @ grey.astype(np.float32) @ cosines.T * weights
    return np.asarray(values.reshape(*values.shape[:-2], number**2)[..., 1:], dtype=np.float32)


def _unit(values: Floats) -> Floats:
    lengths = np.linalg.norm(values, axis=-1, keepdims=True)
    return np.asarray(values / np.maximum(lengths, 1e-6), dtype=np.float32)


def _correlation(a: npt.NDArray[np.generic], b: npt.NDArray[np.generic]) -> Floats:
    product = _unit(_features(a, *_FINE)) * _unit(_features(b, *_FINE))
    return np.asarray(product.sum(axis=-1), dtype=np.float32)


def tangents_of(grey: npt.NDArray[np.generic]) -> Floats:
    """Return the derivatives of features by contrast, shift x, shift y and scale: (M, 4, k).

    Those by contrast are the features of the thumbnails (M, SIDE, SIDE) themselves.
    """
    values = grey.astype(np.float32)
    down, right = np.gradient(values, axis=(1, 2))
    place = np.arange(SIDE, dtype=np.float32) - (SIDE - 1) / 2
    grow = right * place + down * place[:, None]
    return _features(np.stack([values, right, down, grow], axis=1), *_COARSE)


def _fit(basis: Floats, target: Floats) -> tuple[Floats, Floats]:
    """Fit features (P, k) as combinations of tangents (P, 4, k) by least squares.

    Returns:
        The coefficients, (P, 4), and the share of the energy of `target` they explain, (P,).
    """
    target = target[..., None]
    gram = basis @ basis.transpose(0, 2, 1)
    # Each coefficient has its own ridge, as the tangent of scale is far longer than the shifts'.
    ridge = 1e-4 * np.einsum("pii->pi", gram)[:, :, None] + 1e-3
    factors = np.linalg.solve(gram + ridge * np.eye(4, dtype=np.float32), basis @ target)
    rest = ((target - basis.transpose(0, 2, 1) @ factors) ** 2).sum(axis=(1, 2))
    energy = np.maximum((target**2).sum(axis=(1, 2)), 1e-6)
    return factors[..., 0].astype(np.float32), np.asarray(1 - rest / energy, dtype=np.float32)


def _moved_onto(moving: npt.NDArray[np.uint8], still: npt.NDArray[np.uint8]) -> Floats:
    """Shift and scale `moving` onto `still` by three Gauss-Newton steps."""
    target = _features(still, *_COARSE)
    moves = np.zeros((len(moving), 3), dtype=np.float32)
    moved = moving.astype(np.float32)
    for _ in range(3):
        factors, _ = _fit(tangents_of(moved), target)
        contrast = np.maximum(factors[:, :1], np.float32(0.2))
        moves = np.clip(moves + factors[:, 1:] / contrast, -_FARTHEST, _FARTHEST)
        moved = _warped(moving.astype(np.float32), moves)
    return moved


def _warped(grey: Floats, moves: Floats) -> Floats:
    """Resample thumbnails (P, SIDE, SIDE), shifted x, y and scaled about the centre by (P, 3)."""
    centre = (SIDE - 1) / 2
    place = (np.arange(SIDE, dtype=np.float32) - centre) * (1 + moves[:, 2:]) + centre
    across = _interpolation(place + moves[:, :1])
    down = _interpolation(place + moves[:, 1:2])
    return np.asarray(down @ grey @ across.transpose(0, 2, 1), dtype=np.float32)


def _interpolation(places: Floats) -> Floats:
    """Return linear interpolation matrices, (P, SIDE, SIDE), with the edges replicated."""
    places = np.clip(places, 0, SIDE - 1)
    distance = np.abs(places[:, :, None] - np.arange(SIDE, dtype=np.float32))
    return np.asarray(np.maximum(0, 1 - distance), dtype=np.float32)
