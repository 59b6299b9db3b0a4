"""Affine distortions of training images: turned, sheared, scaled and moved by a little.

Koch, Zemel & Salakhutdinov, "Siamese Neural Networks for One-shot Image Recognition", ICML Deep
Learning Workshop 2015, section 3.2: rotation within 10 degrees, shear within 0.3, scale within 0.8
to 1.2, translation within 2 of 105 pixels; each component with probability 1/2, in each direction
for itself where there are two.

A task draws one random number for each component. Its examples have those numbers moved along the
sequence of Roberts, "The Unreasonable Effectiveness of Quasirandom Sequences", 2018: each example's
distortion is uniform, and those of a task are spread over all of them. So a task needs as many
random numbers whatever its size, and is distorted alike by any worker and after any crash.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from metadist.keys import Key

#: Rotation, shear, scale and translation, each of the latter three in two directions.
COMPONENTS = 7
ROTATION, SHEAR, SCALE = math.radians(10.0), 0.3, 0.2
#: Of a side: 2 of 105 pixels.
TRANSLATION = 2.0 / 105.0


def _generalised_golden_ratio() -> float:
    """The root of x^(d + 1) = x + 1 above 1, for d components."""
    x = 1.0
    for _ in range(60):
        x = (1.0 + x) ** (1.0 / (COMPONENTS + 1))
    return x


_RATIO = _generalised_golden_ratio()
#: From one example to the next, of each component.
STRIDES = tuple(_RATIO**-component for component in range(1, COMPONENTS + 1))


def drawn(key: Key) -> Tensor:
    """The random numbers of a task, float64 [7] in (0, 1)."""
    return key.uniform((COMPONENTS,), torch.float64)


def amounts(draw: Tensor, first: int, count: int) -> Tensor:
    """How much of each component's most, in [-1, 1), float64 [n, 7]; half of them are 0.

    Args:
        draw: float64 [7], of the task.
        first, count: which of its examples.
    """
    places = torch.arange(first, first + count, dtype=draw.dtype, device=draw.device)
    strides = torch.tensor(STRIDES, dtype=draw.dtype, device=draw.device)
    uniform = (draw + places[:, None] * strides).frac()
    return torch.where(uniform < 0.5, 0.0, 4.0 * uniform - 3.0)


def matrices(amounts: Tensor) -> Tensor:
    """[n, 2, 2] of amounts [n, 7]: where in the image what is seen at a place was, by rows x, y."""
    angle, scale = ROTATION * amounts[:, 0], 1.0 + SCALE * amounts[:, 3:5]
    cos, sin = angle.cos(), angle.sin()
    along_x, along_y = SHEAR * amounts[:, 1], SHEAR * amounts[:, 2]
    # Rotation times [[1, along_x], [along_y, 1]], columns times the scales.
    first = torch.stack([cos - sin * along_y, cos * along_x - sin], 1)
    second = torch.stack([sin + cos * along_y, sin * along_x + cos], 1)
    return torch.stack([first, second], 1) * scale[:, None]


def distorted(x: Tensor, draw: Tensor, first: int = 0) -> Tensor:
    """Images [n, C, H, W], each distorted about its centre; bilinear, continued by their edges.

    Args:
        draw: float64 [7], of the task.
        first: place of the first of them among the task's examples.
    """
    count, _, height, width = x.shape
    found = amounts(draw, first, count)
    down = torch.arange(height, dtype=draw.dtype, device=x.device) - (height - 1) / 2
    along = torch.arange(width, dtype=draw.dtype, device=x.device) - (width - 1) / 2
    places = torch.stack([along.expand(height, width), down[:, None].expand(height, width)], 2)
    sides = torch.tensor([width, height], dtype=draw.dtype, device=x.device)
    moved = TRANSLATION * sides * found[:, 5:7]
    sources = places.reshape(1, -1, 2) @ matrices(found).transpose(1, 2) + moved[:, None]
    # In the units of torch an image reaches from -1 to 1, by the outer edges of its pixels.
    grid = (2.0 * sources / sides).reshape(count, height, width, 2).to(x.dtype)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)
