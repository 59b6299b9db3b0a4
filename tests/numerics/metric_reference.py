"""What metric learners should compute, written from their papers' equations.

One example after the other, without a line of theirs. Features are the outputs of a network whose
head is the identity.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from tests.numerics.plugin_definitions import encoded, mean, norms, squared
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

#: ``head(learner, theta, support, labels, query)``: a number for each class, of feature vectors.
Head = Callable[[Reference, Tensors, list[Tensor], list[int], Tensor], list[Tensor]]


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Of the angle between two vectors."""
    return (a * b).sum() / ((a * a).sum().sqrt() * (b * b).sum().sqrt())


def outputs(
    learner: Reference,
    theta: Tensors,
    task: Episode,
    head: Head,
    *,
    training: bool,
    own: Callable[[str], bool] = lambda name: False,
) -> Tensor:
    """Logits [Q, N] of the queries.

    Args:
        own: whether a parameter is the head's and none of the encoder's.
    """
    network = {n: p for n, p in theta.items() if not own(n)}
    first, other = norms(learner, network, task.support_x)
    if training and learner.norm == "running":
        x = torch.cat([task.support_x, task.query_x])
        both, _ = encoded(learner, network, x, first)
        support, queries = both[: len(task.support_x)], both[len(task.support_x) :]
    else:
        support, _ = encoded(learner, network, task.support_x, first)
        queries, _ = encoded(learner, network, task.query_x, other)
    labels = [int(y) for y in task.support_y]
    return torch.stack(
        [torch.stack(head(learner, theta, support, labels, query)) for query in queries]
    )


def definition(head: Head, own: Callable[[str], bool] = lambda name: False) -> Definition:
    """The objective's loss of the logits, and its derivative on the tape."""

    def defined(
        learner: Reference, theta: Mapping[str, Tensor], task: Episode, noise: Noise
    ) -> tuple[Tensor, Tensors]:
        at = leaves(theta)
        value = learner.loss(outputs(learner, at, task, head, training=True, own=own), task.query_y)
        return value.detach(), derivative(value, at)

    return defined


def prediction(head: Head, own: Callable[[str], bool] = lambda name: False) -> Prediction:
    """The logits at test."""

    def predicted(
        learner: Reference, theta: Mapping[str, Tensor], task: Episode, noise: Noise
    ) -> Tensor:
        return outputs(learner, dict(theta), task, head, training=False, own=own).detach()

    return predicted


def of_class(vectors: list[Tensor], labels: list[int], way: int) -> list[Tensor]:
    """Those with this label."""
    return [v for v, y in zip(vectors, labels, strict=True) if y == way]


def protonet(
    learner: Reference, theta: Tensors, support: list[Tensor], labels: list[int], query: Tensor
) -> list[Tensor]:
    """Snell, Swersky & Zemel, 2017, equations 1 and 2."""
    prototypes = [mean(of_class(support, labels, way)) for way in range(max(labels) + 1)]
    if learner.options["metric"] == "cosine":
        near = [cosine(query, c) for c in prototypes]
    else:
        near = [-squared(query, c) for c in prototypes]
    return [learner.options["scale"] * one for one in near]


DEFINITIONS: dict[str, Definition] = {"protonet": definition(protonet)}
PREDICTIONS: dict[str, Prediction] = {"protonet": prediction(protonet)}
