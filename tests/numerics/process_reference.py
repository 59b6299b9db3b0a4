"""What conditional neural processes should compute, written from the paper's equations.

Nothing here calls the code under test. Garnelo et al., 2018, equations 1 to 4: one example after
the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from tests.numerics.metric_reference import mean
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


def part(theta: Mapping[str, Tensor], name: str) -> Tensors:
    """The parameters of one of the networks, by their own names."""
    return {n.partition(".")[2]: p for n, p in theta.items() if n.partition(".")[0] == name}


def decoded(
    learner: Reference, theta: Tensors, x: Tensor, seen_x: Tensor, seen_y: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean and scale [n, E] at x [n, D] of a function that some values were seen of."""
    vectors = []
    for xi, yi in zip(seen_x, seen_y, strict=True):
        pair = torch.cat([xi, yi])[None]
        vectors.append(learner.net(part(theta, "encoder"), pair, "off")[0][0])
    r = mean(vectors)
    rows = [learner.net(part(theta, "decoder"), torch.cat([xi, r])[None], "off")[0] for xi in x]
    m, s = torch.cat(rows).chunk(2, 1)
    least = learner.options["least_scale"]
    return m, least + (1 - least) * torch.log(1 + torch.exp(s))


def seen(learner: Reference, task: Episode, noise: Noise) -> int:
    """How many support examples are learned from."""
    size, fewest = len(task.support_y), learner.options["fewest"]
    if not fewest or "size" not in noise:
        return size
    return min(size, math.floor(fewest + float(noise["size"]) * (size - fewest + 1)))


def cnp_loss(
    learner: Reference, theta: Mapping[str, Tensor], task: Episode, noise: Noise
) -> tuple[Tensor, Tensors]:
    """The objective's loss of the means, of queries or of all examples, and its derivative."""
    at, count = leaves(theta), seen(learner, task, noise)
    x, y = task.query_x, task.query_y
    if learner.options["predict_support"]:
        x, y = torch.cat([task.support_x, x]), torch.cat([task.support_y, y])
    found, _ = decoded(learner, at, x, task.support_x[:count], task.support_y[:count])
    value = learner.loss(found, y)
    return value.detach(), derivative(value, at)


def cnp(learner: Reference, theta: Mapping[str, Tensor], task: Episode, noise: Noise) -> Tensor:
    """Means at the queries, by all support examples."""
    given = dict(theta)
    return decoded(learner, given, task.query_x, task.support_x, task.support_y)[0].detach()


DEFINITIONS: dict[str, Definition] = {"cnp": cnp_loss}
PREDICTIONS: dict[str, Prediction] = {"cnp": cnp}
