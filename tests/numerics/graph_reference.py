"""What graph neural networks should compute, written from the paper's equations.

Nothing here calls the code under test. Garcia & Bruna, 2018: a graph for each query, the query
first and all others behind it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from tests.numerics.metric_reference import encoded
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
from tests.numerics.sequence_reference import affine

#: Graph convolutions before the last one.
CONVOLUTIONS = 2


class Graphs:
    """All graphs of a task: how layers normalise over them, and the moments that they had."""

    def __init__(self, learner: Reference, theta: Tensors, norm: Normalisation) -> None:
        assert isinstance(learner.net, Net)
        self.net, self.theta, self.norm = learner.net, theta, norm
        self.moments: Moments = {}

    def layer(self, name: str, x: Tensor) -> Tensor:
        """Linear map, normalisation over everything, leaky ReLU of x [..., F]."""
        h = affine(self.theta, name, x)
        columns = h.reshape(-1, h.shape[-1])[:, :, None, None]
        scale, shift = (self.theta[f"{name}.norm.{part}"] for part in ("scale", "shift"))
        columns = self.net._normalised(
            columns, f"{name}.norm", scale, shift, self.norm, 0, self.moments
        )
        h = columns[:, :, 0, 0].reshape(h.shape)
        return torch.where(h > 0, h, 0.01 * h)

    def edges(self, number: int, x: Tensor) -> Tensor:
        """softmax_j(MLP(|x_i - x_j|)) without i (equations 4 and 5), of x [G, V, F]."""
        size = x.shape[1]
        h = torch.stack([(x - x[:, i : i + 1]).abs() for i in range(size)], 1)
        for depth in (1, 2, 3, 4):
            h = self.layer(f"graph.{number}.edge.{depth}", h)
        scores = (h @ self.theta[f"graph.{number}.edge.score.weight"].T)[..., 0]
        powers = torch.exp(scores) * (1 - torch.eye(size, dtype=x.dtype))
        return powers / powers.sum(2, keepdim=True)

    def heard(self, number: int, x: Tensor) -> Tensor:
        """[x, A x]."""
        return torch.cat([x, torch.einsum("gij,gjf->gif", self.edges(number, x), x)], 2)


def coded(label: int, ways: int, like: Tensor) -> Tensor:
    """One-hot; uniform without a label (-1)."""
    if label < 0:
        return like.new_full((ways,), 1 / ways)
    return torch.stack([like.new_tensor(float(label == way)) for way in range(ways)])


def chosen(shares: Tensor, draw: Tensor | None, graph: int) -> int:
    """The place of a graph whose label is asked for: that whose shares a number falls into."""
    if draw is None:
        return int(shares.argmax())
    at, passed = math.fmod(float(draw) + (math.sqrt(5) - 1) / 2 * graph, 1.0), 0.0
    for place, share in enumerate(shares.tolist()):
        passed += share
        if at < passed:
            return place
    return len(shares) - 1


def asked(learner: Reference, theta: Tensors, x: Tensor, task: Episode, noise: Noise) -> Tensor:
    """Vertices [G, V, F] after the first convolution, with a label more (section 5.3)."""
    hidden, start = task.info["unlabeled_y"], len(theta["graph.embedding.bias"])
    ways = len(theta["graph.2.vertex.bias"])
    first = x.shape[1] - len(hidden)
    rows = []
    for graph, vertices in enumerate(x):
        scores = torch.zeros(len(hidden), dtype=x.dtype)
        if learner.options["unlabeled"] == "asked":
            inner = torch.tanh(affine(theta, "graph.attention.1", vertices[first:]))
            scores = (inner @ theta["graph.attention.2.weight"].T)[:, 0]
        shares = torch.exp(scores) / torch.exp(scores).sum()
        place = chosen(shares, noise.get("asked"), graph)
        label = int(hidden[place])
        # The attention at the place is 1; its derivative is that of the share.
        weight = theta["graph.asked.weight"] * (shares[place] + (1 - shares[place]).detach())
        added = torch.zeros_like(vertices)
        if label >= 0:
            added[first + place, start : start + ways] = weight * coded(label, ways, x)
        rows.append(vertices + added)
    return torch.stack(rows)


def logits(
    learner: Reference,
    theta: Tensors,
    task: Episode,
    others: Tensor,
    queries: list[Tensor],
    norm: Normalisation,
    noise: Noise | None,
) -> tuple[Tensor, Moments]:
    """[Q, N] at the queries, of vertices that all graphs have; without noise nothing is asked."""
    graphs = Graphs(learner, theta, norm)
    ways = len(theta["graph.2.vertex.bias"])
    x = torch.stack(
        [torch.cat([vertex(theta, query, -1, ways)[None], others]) for query in queries]
    )
    for number in range(CONVOLUTIONS):
        more = graphs.layer(f"graph.{number}.vertex", graphs.heard(number, x))
        x = torch.cat([x, more], 2)
        if number == 0 and noise is not None and "graph.asked.weight" in theta:
            x = asked(learner, theta, x, task, noise)
    last = affine(theta, f"graph.{CONVOLUTIONS}.vertex", graphs.heard(CONVOLUTIONS, x))
    return last[:, 0], graphs.moments


def vertex(theta: Tensors, features: Tensor, label: int, ways: int) -> Tensor:
    """[embedding; label]."""
    embedded = affine(theta, "graph.embedding", features[None])[0]
    return torch.cat([embedded, coded(label, ways, features)])


def outputs(
    learner: Reference, theta: Tensors, task: Episode, noise: Noise, *, training: bool = False
) -> Tensor:
    """Logits of the queries, each in its graph."""
    body = {n: p for n, p in theta.items() if not n.startswith("graph.")}
    ways = len(theta["graph.2.vertex.bias"])
    labels = [int(y) for y in task.support_y]
    examples = task.support_x
    if learner.options["unlabeled"] != "ignored":
        examples = torch.cat([examples, task.info["unlabeled_x"]])
        labels += [-1] * len(task.info["unlabeled_x"])
    own: Normalisation = "off" if learner.norm == "none" else "batch"
    if training and learner.norm == "running":
        both, _ = encoded(learner, body, torch.cat([examples, task.query_x]), own)
        seen, queries = both[: len(labels)], both[len(labels) :]
    else:
        seen, moments = encoded(learner, body, examples, own)
        queries, _ = encoded(
            learner, body, task.query_x, moments if learner.norm == "support" else own
        )
    others = torch.stack(
        [vertex(theta, f, label, ways) for f, label in zip(seen, labels, strict=True)]
    )
    norm = own
    if learner.norm == "support":
        norm = logits(learner, theta, task, others, seen, "batch", None)[1]
    return logits(learner, theta, task, others, queries, norm, noise)[0]


def gnn_loss(
    learner: Reference, theta: Mapping[str, Tensor], task: Episode, noise: Noise
) -> tuple[Tensor, Tensors]:
    """The objective's loss of the logits, and its derivative on the tape."""
    at = leaves(theta)
    value = learner.loss(outputs(learner, at, task, noise, training=True), task.query_y)
    return value.detach(), derivative(value, at)


def gnn(learner: Reference, theta: Mapping[str, Tensor], task: Episode, noise: Noise) -> Tensor:
    """The logits at test."""
    return outputs(learner, dict(theta), task, noise).detach()


DEFINITIONS: dict[str, Definition] = {"gnn": gnn_loss}
PREDICTIONS: dict[str, Prediction] = {"gnn": gnn}
