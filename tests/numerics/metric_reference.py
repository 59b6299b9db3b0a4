"""What metric learners should compute, written from their papers' equations.

Nothing here calls the code under test. Prototypical networks (Snell et al., 2017), matching
networks (Vinyals et al., 2016), relation networks (Sung et al., 2018), Baseline++ (Chen et al.,
2019). A head is a function of features, one example after the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from tests.numerics.reference import (
    Definition,
    Episode,
    Moments,
    Net,
    Noise,
    Normalisation,
    Prediction,
    Reference,
    Tensors,
    derivative,
    leaves,
)
from tests.numerics.variants_reference import orders


class Features(NamedTuple):
    """Of a task: a list of vectors each, the support set's labels, how pairs are normalised, and
    what else is known of the task."""

    support: list[Tensor]
    labels: list[int]
    queries: list[Tensor]
    norm: Normalisation | str
    info: Mapping[str, Tensor] = MappingProxyType({})

    @property
    def classes(self) -> list[list[Tensor]]:
        """Support features by class."""
        return [
            [f for f, y in zip(self.support, self.labels, strict=True) if y == way]
            for way in range(max(self.labels) + 1)
        ]


class Head(Protocol):
    """Logits [Q, N] of features."""

    def __call__(self, learner: Reference, theta: Tensors, found: Features) -> Tensor: ...


def total(vectors: list[Tensor]) -> Tensor:
    """Their sum."""
    return sum(vectors[1:], start=vectors[0])


def mean(vectors: list[Tensor]) -> Tensor:
    """Their sum by their number."""
    return total(vectors) / len(vectors)


def squared(a: Tensor, b: Tensor) -> Tensor:
    """|a - b|^2 of two vectors."""
    return ((a - b) ** 2).sum()


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Of the angle between two vectors; 0 if one of them is zero."""
    lengths = (a * a).sum().sqrt() * (b * b).sum().sqrt()
    return (a * b).sum() / lengths if bool(lengths > 0) else (a * b).sum()


def encoded(
    learner: Reference, theta: Tensors, x: Tensor, norm: Normalisation
) -> tuple[list[Tensor], Moments]:
    """Features of each example, and the moments of the pass."""
    assert isinstance(learner.net, Net)
    features, moments = learner.net.features(theta, x, norm)
    return list(features), moments


def features(learner: Reference, theta: Tensors, task: Episode, *, training: bool) -> Features:
    """Support and queries in one pass where training keeps running averages, else in two."""
    own: Normalisation = "off" if learner.norm == "none" else "batch"
    labels = [int(y) for y in task.support_y]
    if training and learner.norm == "running":
        both, _ = encoded(learner, theta, torch.cat([task.support_x, task.query_x]), own)
        return Features(both[: len(labels)], labels, both[len(labels) :], own, task.info)
    support, moments = encoded(learner, theta, task.support_x, own)
    other = moments if learner.norm == "support" else own
    queries, _ = encoded(learner, theta, task.query_x, other)
    pairs: Normalisation | str = "support" if learner.norm == "support" else own
    return Features(support, labels, queries, pairs, task.info)


def encoder_of(theta: Mapping[str, Tensor]) -> Tensors:
    """The encoder's parameters among all: those of no head of this module."""
    heads = ("support.", "query.", "relation.", "attributes.")
    return {n: p for n, p in theta.items() if not n.startswith(heads)}


def outputs(
    learner: Reference, theta: Tensors, task: Episode, head: Head, *, training: bool = False
) -> Tensor:
    """Logits [Q, N] of the queries."""
    return head(learner, theta, features(learner, encoder_of(theta), task, training=training))


def definition(head: Head) -> Definition:
    """The objective's loss of the logits, and its derivative on the tape."""

    def defined(
        learner: Reference, theta: Mapping[str, Tensor], task: Episode, noise: Noise
    ) -> tuple[Tensor, Tensors]:
        at = leaves(theta)
        value = learner.loss(outputs(learner, at, task, head, training=True), task.query_y)
        return value.detach(), derivative(value, at)

    return defined


def prediction(head: Head) -> Prediction:
    """The logits at test, perhaps after steps on the support set."""

    def predicted(
        learner: Reference, theta: Mapping[str, Tensor], task: Episode, noise: Noise
    ) -> Tensor:
        phi = leaves(theta)
        if learner.options.get("fine_tune", False):
            own = task._replace(query_x=task.support_x, query_y=task.support_y)
            for _ in range(learner.steps):
                logits = outputs(learner, phi, own, head)
                slopes = derivative(learner.scale * learner.loss(logits, own.query_y), phi)
                phi = leaves({n: p - learner.lr * slopes[n] for n, p in phi.items()})
        return outputs(learner, phi, task, head).detach()

    return predicted


def table(of: Callable[[Tensor], list[Tensor]], queries: list[Tensor]) -> Tensor:
    """Logits [Q, N], a row for each query."""
    return torch.stack([torch.stack(of(query)) for query in queries])


# --- prototypical networks ------------------------------------------------------------------------


def protonet(learner: Reference, theta: Tensors, found: Features) -> Tensor:
    """Snell, Swersky & Zemel, 2017, equations 1 and 2; section 2.7 of attributes."""
    prototypes = [mean(vectors) for vectors in found.classes]
    if learner.options["prototypes"] == "attributes":
        w, b = theta["attributes.weight"], theta["attributes.bias"]
        mapped = [w @ own + b for own in found.info["class_attributes"]]
        prototypes = [c / (c * c).sum().sqrt() for c in mapped]
    scale, by_angle = learner.options["scale"], learner.options["metric"] == "cosine"
    return table(
        lambda f: [scale * (cosine(f, c) if by_angle else -squared(f, c)) for c in prototypes],
        found.queries,
    )


# --- matching networks ----------------------------------------------------------------------------


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    return 1 / (1 + torch.exp(-x))


def lstm(
    theta: Tensors, name: str, x: Tensor, fed_back: Tensor, cell: Tensor
) -> tuple[Tensor, Tensor]:
    """Output and cell [H] after a step on an input [D] (Gers et al., 2000)."""
    w, u, b = (theta[f"{name}.{part}"] for part in ("inputs", "recurrent", "bias"))
    size = len(cell)

    def gate(number: int) -> Tensor:
        rows = slice(number * size, (number + 1) * size)
        return w[rows] @ x + u[rows] @ fed_back + b[rows]

    new = sigmoid(gate(1)) * cell + sigmoid(gate(0)) * torch.tanh(gate(2))
    return sigmoid(gate(3)) * torch.tanh(new), new


def both_ways(theta: Tensors, support: list[Tensor]) -> list[Tensor]:
    """g(x_i, S) = h_i(forwards) + h_i(backwards) + f'(x_i)."""
    found = list(support)
    for name, order in (
        ("support.forwards", range(len(support))),
        ("support.backwards", range(len(support) - 1, -1, -1)),
    ):
        hidden = cell = torch.zeros_like(support[0])
        for i in order:
            hidden, cell = lstm(theta, name, support[i], hidden, cell)
            found[i] = found[i] + hidden
    return found


def softmax(scores: list[Tensor]) -> list[Tensor]:
    """exp(s_i) / sum exp(s_j)."""
    powers = [torch.exp(score) for score in scores]
    return [power / total(powers) for power in powers]


def read(theta: Tensors, query: Tensor, support: list[Tensor], steps: int) -> Tensor:
    """f(x, S): equations 3 to 6 of the paper's section 2.1.2 and its appendix."""
    hidden = cell = torch.zeros_like(query)
    for _ in range(steps):
        weights = softmax([(hidden * g).sum() for g in support])
        r = total([a * g for a, g in zip(weights, support, strict=True)])
        output, cell = lstm(theta, "query.reader", query, torch.cat([hidden, r]), cell)
        hidden = output + query
    return hidden if steps else query


def matching(learner: Reference, theta: Tensors, found: Features) -> Tensor:
    """Vinyals et al., 2016, equations 1 and 2; Ravi & Larochelle's form with ``scores = mean``."""
    options = learner.options
    support = both_ways(theta, found.support) if options["support_lstm"] else found.support
    ways = range(max(found.labels) + 1)

    def row(query: Tensor) -> list[Tensor]:
        f = read(theta, query, support, options["query_lstm_steps"])
        near = [options["scale"] * cosine(f, g) for g in support]
        if options["scores"] == "mean":
            return [
                mean([s for s, y in zip(near, found.labels, strict=True) if y == k]) for k in ways
            ]
        weights = list(zip(softmax(near), found.labels, strict=True))
        return [torch.log(total([a for a, y in weights if y == k])) for k in ways]

    return table(row, found.queries)


# --- relation networks ----------------------------------------------------------------------------


def relation(learner: Reference, theta: Tensors, found: Features) -> Tensor:
    """Sung et al., 2018: the sum of a class's features and a query's, side by side."""
    sums = [total(vectors) for vectors in found.classes]
    norm = found.norm
    if norm == "support":
        norm = related(learner, theta, sums, found.support, "batch")[1]
    return related(learner, theta, sums, found.queries, norm)[0]


def related(
    learner: Reference, theta: Tensors, classes: list[Tensor], queries: list[Tensor], norm: object
) -> tuple[Tensor, Moments]:
    """z [Q, N] of all pairs, and the moments of its two normalisations."""
    net, moments = learner.net, Moments()
    assert isinstance(net, Net)
    first = theta.get("relation.conv1.weight")
    if first is None:
        pairs = torch.stack([torch.cat([c, q]) for q in queries for c in classes])
        h = pairs @ theta["relation.pair.weight"].T + theta["relation.pair.bias"]
        h = h * (h > 0)
    else:
        channels = first.shape[1] // 2
        side = math.isqrt(len(classes[0]) // channels)
        maps = [[v.reshape(channels, side, side) for v in some] for some in (classes, queries)]
        h = torch.stack([torch.cat([c, q]) for q in maps[1] for c in maps[0]])
        for block in ("1", "2"):
            h = torch.conv2d(h, theta[f"relation.conv{block}.weight"], padding=1)
            layer = f"relation.norm{block}"
            scale, shift = theta[f"{layer}.scale"], theta[f"{layer}.shift"]
            h = net._normalised(h, layer, scale, shift, norm, 0, moments)  # type: ignore[arg-type]
            h = h * (h > 0)
            if h.shape[2] > 1:
                rows = h.shape[2] // 2
                h = h[:, :, : 2 * rows, : 2 * rows]
                h = h.reshape(len(h), -1, rows, 2, rows, 2).amax(dim=(3, 5))
        h = h.reshape(len(h), -1)
    h = h @ theta["relation.hidden.weight"].T + theta["relation.hidden.bias"]
    h = h * (h > 0)
    z = h @ theta["relation.score.weight"].T + theta["relation.score.bias"]
    return z.reshape(len(queries), len(classes)), moments


# --- Baseline++ -----------------------------------------------------------------------------------


def last_layer(theta: Mapping[str, Tensor]) -> str:
    """Name of the head's weight, the only layer without a bias that is no convolution."""
    return [n for n, p in theta.items() if n.endswith(".weight") and p.dim() == 2][-1]


def cosines(learner: Reference, vectors: list[Tensor], weights: Tensor) -> Tensor:
    """Logits of a classifier by cosines; so few classes have the factor 2."""
    scale = learner.options["scale"] or 2.0
    return table(lambda f: [scale * cosine(f, w) for w in weights], vectors)


def direction(f: Tensor) -> Tensor:
    """f / |f|; 0 of a zero vector."""
    return f / f.norm() if bool(f.norm() > 0) else f


def baselinepp_loss(
    learner: Reference, theta: Mapping[str, Tensor], task: Episode, noise: Noise
) -> tuple[Tensor, Tensors]:
    """The mean loss of all examples, each of its class among all training classes."""
    start = leaves(theta)
    head = last_layer(theta)
    body = {n: p for n, p in start.items() if n != head}
    y = [int(task.info["class_ids"][way]) for way in [*task.support_y, *task.query_y]]
    x = torch.cat([task.support_x, task.query_x])
    vectors, _ = encoded(learner, body, x, "off" if learner.norm == "none" else "batch")
    value = learner.loss(cosines(learner, vectors, start[head]), torch.tensor(y))
    return value.detach(), derivative(value, start)


def baselinepp(
    learner: Reference, theta: Mapping[str, Tensor], task: Episode, noise: Noise
) -> Tensor:
    """Torch's SGD on the features of the support set; the network is kept."""
    options = learner.options
    body = {n: p for n, p in theta.items() if n != last_layer(theta)}
    found = features(learner, body, task, training=False)
    if options["start"] == "drawn":
        weights = noise["weights"].to(task.query_x.dtype).clone()
    else:
        weights = torch.stack([mean([direction(f) for f in vectors]) for vectors in found.classes])
    weights = weights.detach().requires_grad_()
    decay, momentum = options["weight_decay"], options["momentum"]
    descent = torch.optim.SGD(
        [weights], lr=learner.lr, momentum=momentum, dampening=momentum, weight_decay=decay
    )
    order = list(orders(noise["order"].tolist(), len(found.labels))) if "order" in noise else []
    size = options["batch"]
    for step in range(learner.steps):
        rows = order[step * size : (step + 1) * size] or list(range(len(found.labels)))
        descent.zero_grad()
        logits = cosines(learner, [found.support[i] for i in rows], weights)
        (learner.scale * learner.loss(logits, task.support_y[rows])).backward()
        descent.step()
    return cosines(learner, found.queries, weights).detach()


DEFINITIONS: dict[str, Definition] = {
    "protonet": definition(protonet),
    "matching": definition(matching),
    "relation": definition(relation),
    "baselinepp": baselinepp_loss,
}
PREDICTIONS: dict[str, Prediction] = {
    "protonet": prediction(protonet),
    "matching": prediction(matching),
    "relation": prediction(relation),
    "baselinepp": baselinepp,
}
