"""Exact random numbers and the pen of the generated `strokes` dataset.

Everything here gives the same bytes on every processor. Only operations that IEEE 754 rounds
exactly are used (+, -, *, /, sqrt, comparisons), each as its own elementwise numpy call, and
floating-point sums are written out term by term: a library reduction may add in an order that
depends on the vector unit, and sin, exp or pow may differ in the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

CANVAS = 28
"""Height and width of a drawing in pixels."""

POINTS_PER_STROKE = 80
"""Pen positions along one curve. Even the longest curves then advance about one pixel or less
per position, and a pen of 1.5 pixels or more shows no beads."""

_ROOT_3 = float(np.sqrt(np.float64(3.0)))


class Draws:
    """A stream of random numbers named by a few integers.

    The raw Philox words are part of numpy's stable interface; numpy's distributions are not, so
    the few that are needed are built here from integers.

    Args:
        name: up to four integers in [0, 2**32) that name the stream.
    """

    def __init__(self, *name: int) -> None:
        if len(name) > 4 or not all(0 <= word < 1 << 32 for word in name):
            raise ValueError(f"a stream is named by up to four 32-bit words, not {name!r}")
        key = sum(word << (32 * place) for place, word in enumerate(name))
        self._source = np.random.Philox(key=key)

    def uniform(self, *shape: int) -> Floats:
        """Numbers in [0, 1) of the given shape."""
        raw = self._source.random_raw(int(np.prod(shape, dtype=np.int64)))
        return ((raw >> np.uint64(11)).astype(np.float64) * 2.0**-53).reshape(shape)

    def bell(self, *shape: int) -> Floats:
        """Bell-shaped numbers of mean 0 and deviation 1, never beyond 2 * sqrt(3)."""
        parts = self.uniform(4, *shape)
        scaled: Floats = (parts[0] + parts[1] + parts[2] + parts[3] - 2.0) * _ROOT_3
        return scaled

    def between(self, low: float, high: float) -> float:
        """One number in [low, high)."""
        return low + (high - low) * float(self.uniform(1)[0])

    def choice(self, weights: Sequence[int]) -> int:
        """An index, taken in proportion to whole-number weights."""
        raw = int(self._source.random_raw(1)[0])
        ticket = ((raw >> 32) * sum(weights)) >> 32
        for index, weight in enumerate(weights):
            if ticket < weight:
                return index
            ticket -= weight
        raise AssertionError("the ticket is below the sum of the weights")


def matrices(turn: Floats, shear: Floats, width: Floats, height: Floats) -> Floats:
    """2 x 2 maps that stretch, then shear along x, then rotate.

    Args:
        turn: tangent of half the rotation angle (the rational form of sine and cosine).
        shear: pixels moved along x per pixel of y.
        width: factor along x.
        height: factor along y.

    Returns:
        float64 [..., 2, 2] for arguments of shape [...], acting on (x, y) columns.
    """
    square = turn * turn
    cosine = (1.0 - square) / (1.0 + square)
    sine = (turn + turn) / (1.0 + square)
    upper = np.stack([cosine * width, (cosine * shear - sine) * height], axis=-1)
    lower = np.stack([sine * width, (sine * shear + cosine) * height], axis=-1)
    return np.stack([upper, lower], axis=-2)


def transform(matrix: Floats, points: Floats) -> Floats:
    """Apply maps [..., 2, 2] to points [..., 2]; the leading axes broadcast."""
    x, y = points[..., 0], points[..., 1]
    return np.stack(
        [
            matrix[..., 0, 0] * x + matrix[..., 0, 1] * y,
            matrix[..., 1, 0] * x + matrix[..., 1, 1] * y,
        ],
        axis=-1,
    )


def bezier(controls: Floats, at: Floats) -> Floats:
    """Points of cubic Bezier curves.

    Args:
        controls: float64 [..., 4, 2], the control points.
        at: float64 [P], curve parameters in [0, 1].

    Returns:
        float64 [..., P, 2] in the unit of the control points.
    """
    rest = 1.0 - at
    weights = (rest * rest * rest, 3.0 * rest * rest * at, 3.0 * rest * at * at, at * at * at)
    first, second, third, fourth = (
        weight[:, None] * controls[..., index, None, :] for index, weight in enumerate(weights)
    )
    return ((first + second) + third) + fourth


def pen_path(controls: Floats) -> Floats:
    """Pen positions of characters: [..., S, 4, 2] control points -> [..., S * P, 2]."""
    even = np.arange(POINTS_PER_STROKE, dtype=np.float64) / float(POINTS_PER_STROKE - 1)
    # Loops run fastest at their ends, so the positions lie closer together there.
    at = 0.5 * even + even * even * (1.5 - even)
    points = bezier(controls, at)
    return points.reshape(*points.shape[:-3], -1, 2)


def rasterise(path: Floats, thickness: Floats) -> Bytes:
    """Draw pen paths, bright on black, with soft edges.

    Args:
        path: float64 [D, P, 2], pen positions (x, y) in pixels; pixel centres lie at integers.
        thickness: float64 [D], pen diameters in pixels.

    Returns:
        uint8 [D, CANVAS, CANVAS].
    """
    drawings, positions = path.shape[:2]
    centres = np.arange(CANVAS, dtype=np.float32)
    # The squared distance splits into a row and a column part, so each pen position costs one
    # addition and one minimum per pixel.
    across = centres - path[:, :, 0, None].astype(np.float32)
    down = centres - path[:, :, 1, None].astype(np.float32)
    across *= across
    down *= down
    nearest = np.full((drawings, CANVAS, CANVAS), np.inf, dtype=np.float32)
    squared = np.empty_like(nearest)
    for index in range(positions):
        np.add(down[:, index, :, None], across[:, index, None, :], out=squared)
        np.minimum(nearest, squared, out=nearest)
    distance = np.sqrt(nearest)
    reach = (thickness * 0.5 + 0.5).astype(np.float32)[:, None, None]
    ink = np.minimum(np.maximum(reach - distance, np.float32(0.0)), np.float32(1.0))
    grey: Bytes = np.floor(ink * np.float32(255.0) + np.float32(0.5)).astype(np.uint8)
    return grey
