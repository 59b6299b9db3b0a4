"""What Siamese networks should compute, written from the paper's equations, a pair at a time.

Nothing here calls the code under test. Koch, Zemel & Salakhutdinov, 2015: sections 3.1 (the model),
3.2 (loss, distortions) and 4.3 (one-shot tasks).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from tests.numerics.metric_reference import (
    Features,
    encoder_of,
    features,
    mean,
    prediction,
    sigmoid,
    table,
)
from tests.numerics.reference import (
    Definition,
    Episode,
    Noise,
    Prediction,
    Reference,
    Tensors,
    derivative,
    leaves,
)


def same_class(theta: Tensors, first: Tensor, second: Tensor) -> Tensor:
    """p of two features vectors."""
    w, c = theta["siamese.embedding.weight"], theta["siamese.embedding.bias"]
    h, other = (sigmoid(w @ f + c) for f in (first, second))
    distances = (h - other).abs()
    return sigmoid((theta["siamese.pair.weight"] * distances).sum() + theta["siamese.pair.bias"])


def odds(p: Tensor) -> Tensor:
    """Their logarithm."""
    return torch.log(p) - torch.log(1 - p)


def siamese(learner: Reference, theta: Tensors, found: Features) -> Tensor:
    """Of each class the mean over its shots, or the largest."""

    def of(query: Tensor) -> list[Tensor]:
        logits = []
        for shots in found.classes:
            each = [same_class(theta, query, shot) for shot in shots]
            largest = learner.options["shots"] == "largest"
            logits.append(odds(torch.stack(each).amax(0) if largest else mean(each)))
        return logits

    return table(of, found.queries)


def siamese_loss(
    learner: Reference, theta: Mapping[str, Tensor], task: Episode, noise: Noise
) -> tuple[Tensor, Tensors]:
    """Cross-entropy of the pairs of a query and a support example."""
    at, options = leaves(theta), learner.options
    if options["distortions"] == "affine":
        size = len(task.support_x)
        images = distorted(torch.cat([task.support_x, task.query_x]), noise["distortion"])
        task = task._replace(support_x=images[:size], query_x=images[size:])
    found = features(learner, encoder_of(at), task, training=True)
    same, different = [], []
    for query, label in zip(found.queries, task.query_y, strict=True):
        for shot, other in zip(found.support, found.labels, strict=True):
            p = same_class(at, query, shot)
            if int(label) == other:
                same.append(-torch.log(p))
            else:
                different.append(-torch.log(1 - p))
    if options["pairs"] == "balanced":
        value = (mean(same) + mean(different)) / 2
    else:
        value = mean(same + different)
    for name, p in at.items():
        if p.dim() > 1 or name == "siamese.pair.weight":
            value = value + options["penalty"] * (p * p).sum()
    return value.detach(), derivative(value, at)


# --- distortions ----------------------------------------------------------------------------------


def golden() -> float:
    """The number whose eighth power is 1 more than itself, by halving an interval."""
    low, high = 1.0, 2.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if middle**8 < middle + 1 else (low, middle)
    return low


def components(draw: Tensor, example: int) -> list[float]:
    """Of an example, each in [-1, 1): none in half of all cases."""
    found = []
    for k, start in enumerate(draw.tolist(), 1):
        u = (start + example / golden() ** k) % 1.0
        found.append(0.0 if u < 0.5 else 2 * (2 * u - 1) - 1)
    return found


def distorted(images: Tensor, draw: Tensor) -> Tensor:
    """Each by its place among them."""
    return torch.stack([one(image, components(draw, i)) for i, image in enumerate(images)])


def one(image: Tensor, parts: list[float]) -> Tensor:
    """An image [C, H, W]: what stands at a place p about the centre is taken from A p + t."""
    _, height, width = image.shape
    turn = math.radians(10) * parts[0]
    rotation = torch.tensor(
        [[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]], dtype=image.dtype
    )
    shear = torch.tensor([[1, 0.3 * parts[1]], [0.3 * parts[2], 1]], dtype=image.dtype)
    scale = torch.diag(torch.tensor([1 + 0.2 * parts[3], 1 + 0.2 * parts[4]], dtype=image.dtype))
    a = rotation @ shear @ scale
    result = torch.empty_like(image)
    for row in range(height):
        for column in range(width):
            x, y = column - (width - 1) / 2, row - (height - 1) / 2
            there = a @ torch.tensor([x, y], dtype=image.dtype)
            across = float(there[0]) + width * parts[5] * 2 / 105 + (width - 1) / 2
            down = float(there[1]) + height * parts[6] * 2 / 105 + (height - 1) / 2
            result[:, row, column] = between(image, down, across)
    return result


def between(image: Tensor, row: float, column: float) -> Tensor:
    """Of the four pixels about a place, each by how near it is; beyond an edge its nearest."""
    row, column = (
        min(max(v, 0.0), n - 1.0) for v, n in zip((row, column), image.shape[1:], strict=True)
    )
    top, left = min(int(row), image.shape[1] - 2), min(int(column), image.shape[2] - 2)
    value = torch.zeros_like(image[:, 0, 0])
    for r in (top, top + 1):
        for c in (left, left + 1):
            value = value + (1 - abs(row - r)) * (1 - abs(column - c)) * image[:, r, c]
    return value


DEFINITIONS: dict[str, Definition] = {"siamese": siamese_loss}
PREDICTIONS: dict[str, Prediction] = {"siamese": prediction(siamese)}
