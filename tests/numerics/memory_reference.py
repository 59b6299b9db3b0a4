"""What learners with an external memory should compute, written from their papers' equations.

Nothing here calls the code under test: one sequence after the other, one head after the other, one
query after the other. MANN (Santoro et al., 2016), with the addressing
of neural Turing machines as an option (Graves et al., 2014).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.numerics.metric_reference import Features, features, lstm, sigmoid, total
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
from tests.numerics.sequence_reference import affine


@dataclass(frozen=True)
class Turn:
    """What is left after an example: memory [M, W], of each head weights [M], usage [M]."""

    memory: Tensor
    weights: list[Tensor]
    usage: Tensor
    hidden: Tensor
    cell: Tensor
    read: Tensor


def begin(options: Mapping[str, Any], like: Tensor) -> Turn:
    """Equal rows, heads at the first."""
    rows, width, heads = (options[n] for n in ("memory_rows", "memory_width", "heads"))
    first = torch.zeros(rows, dtype=like.dtype)
    first[0] = 1
    zeros = torch.zeros(options["units"], dtype=like.dtype)
    writing = 1 if options["addressing"] == "ntm" else 0
    return Turn(
        torch.full((rows, width), 1e-6, dtype=like.dtype),
        [first] * (heads + writing),
        first,
        zeros,
        zeros,
        torch.zeros(heads * width, dtype=like.dtype),
    )


def parted(vector: Tensor, *shapes: tuple[int, int]) -> list[list[Tensor]]:
    """A vector cut into so many pieces of such a size, for each shape."""
    found = []
    for heads, size in shapes:
        found.append([vector[head * size : (head + 1) * size] for head in range(heads)])
        vector = vector[heads * size :]
    assert not len(vector)
    return found


def similarities(key: Tensor, memory: Tensor) -> Tensor:
    """Cosine of a key with each row."""
    lengths = (key**2).sum() * (memory**2).sum(1)
    return (memory * key).sum(1) / (lengths + 1e-6) ** 0.5


def softmax(scores: Tensor) -> Tensor:
    """exp(s_i) / sum exp(s_j)."""
    return torch.exp(scores) / torch.exp(scores).sum()


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x))."""
    return torch.log(1 + torch.exp(x))


def lrua(options: Mapping[str, Any], vector: Tensor, turn: Turn) -> Turn:
    """Equations 5 to 8, of what the controller's map puts out."""
    heads, width, rows = options["heads"], options["memory_width"], len(turn.memory)
    shapes = [(heads, width), (heads, 1)]
    shapes += [(heads, width)] * options["separate"] + [(heads, 1)] * options["sharp"]
    keys, gates, *more = parted(vector, *shapes)
    keys = [torch.tanh(key) for key in keys]
    added = [torch.tanh(a) for a in more.pop(0)] if options["separate"] else keys
    ones = [torch.ones((), dtype=vector.dtype)] * heads
    strengths = [1 + softplus(s) for s in more.pop(0)] if options["sharp"] else ones
    ranking = sorted(range(rows), key=turn.usage.tolist().__getitem__)
    memory, written = turn.memory.clone(), []
    memory[ranking[0]] = 0
    for head in range(heads):
        unused = torch.zeros(rows, dtype=vector.dtype)
        unused[ranking[head]] = 1
        gate = sigmoid(gates[head])
        written.append(gate * turn.weights[head] + (1 - gate) * unused)
        memory = memory + torch.outer(written[head], added[head])
    weights = [
        softmax(strength * similarities(key, memory))
        for strength, key in zip(strengths, keys, strict=True)
    ]
    usage = options["usage_decay"] * turn.usage + total(weights) + total(written)
    read = torch.cat([w @ memory for w in weights])
    return replace(turn, memory=memory, weights=weights, usage=usage.detach(), read=read)


def ntm(options: Mapping[str, Any], vector: Tensor, turn: Turn) -> Turn:
    """Equations 3 to 9 of Graves et al.; the first head writes, then the others read."""
    heads, width = options["heads"] + 1, options["memory_width"]
    shapes = [(heads, width), (heads, 1), (heads, 1), (heads, 3), (heads, 1), (1, width)]
    *of_heads, (erased,), (added,) = parted(vector, *shapes, (1, width))
    memory, weights = turn.memory, []
    for head, parts in enumerate(zip(*of_heads, strict=True)):
        key, strength, gate, shift, power = parts
        content = softmax(softplus(strength) * similarities(torch.tanh(key), memory))
        gated = sigmoid(gate) * content + (1 - sigmoid(gate)) * turn.weights[head]
        by = softmax(shift)
        back, on = torch.cat([gated[1:], gated[:1]]), torch.cat([gated[-1:], gated[:-1]])
        moved = by[0] * back + by[1] * gated + by[2] * on
        sharp = (moved + 1e-12) ** (1 + softplus(power))
        weights.append(sharp / sharp.sum())
        if head == 0:
            memory = memory * (1 - torch.outer(weights[0], sigmoid(erased)))
            memory = memory + torch.outer(weights[0], torch.tanh(added))
    read = torch.cat([w @ memory for w in weights[1:]])
    return replace(turn, memory=memory, weights=weights, read=read)


def turned(options: Mapping[str, Any], theta: Tensors, x: Tensor, turn: Turn) -> Turn:
    """After one example more."""
    if options["controller"] == "lstm":
        back = torch.cat([turn.hidden, turn.read])
        hidden, cell = lstm(theta, "mann.controller", x, back, turn.cell)
    else:
        w, u, b = (theta[f"mann.controller.{n}"] for n in ("inputs", "recurrent", "bias"))
        hidden, cell = torch.tanh(w @ x + u @ turn.read + b), turn.cell
    vector = affine(theta, "mann.memory.heads", hidden)
    memory = lrua if options["addressing"] == "lrua" else ntm
    return replace(memory(options, vector, turn), hidden=hidden, cell=cell)


def codes_of(options: Mapping[str, Any], ways: int, noise: Noise, like: Tensor) -> Tensor:
    """A unit for each way, or five letters out of five."""
    found = torch.zeros(ways, ways if options["labels"] == "one_hot" else 25, dtype=like.dtype)
    ranking = sorted(range(3125), key=noise["strings"].tolist().__getitem__) if noise else []
    for way in range(ways):
        if options["labels"] == "one_hot":
            found[way, way] = 1
            continue
        for place in range(5):
            found[way, 5 * place + ranking[way] // 5**place % 5] = 1
    return found


def answered(theta: Tensors, turn: Turn) -> Tensor:
    """What is said of the last example."""
    return affine(theta, "mann.answer", torch.cat([turn.hidden, turn.read]))


def turns(
    options: Mapping[str, Any], theta: Tensors, x: list[Tensor], labels: list[Tensor]
) -> list[Turn]:
    """What is left after each example of a sequence, which comes with the label before it."""
    turn, before, found = begin(options, x[0]), torch.zeros_like(labels[0]), []
    for example, label in zip(x, labels, strict=True):
        turn = turned(options, theta, torch.cat([example, before]), turn)
        found.append(turn)
        before = label
    return found


def embedded(learner: Reference, theta: Tensors, task: Episode, *, training: bool) -> Features:
    """By the network, all in one pass in training; or as they are."""
    if learner.options["embed"]:
        # In training all normalisation is that of one batch.
        as_one = replace(learner, norm="none" if learner.norm == "none" else "running")
        own = {n: p for n, p in theta.items() if not n.startswith("mann.")}
        return features(as_one if training else learner, own, task, training=training)
    support, queries = ([*x.flatten(1)] for x in (task.support_x, task.query_x))
    return Features(support, [int(y) for y in task.support_y], queries, "off")


def of_letters(found: Tensor) -> Tensor:
    """Logarithms of the probability of letters, [n, 25]."""
    return F.log_softmax(found.reshape(-1, 5), 1).reshape(len(found), 25)


def mann_loss(
    learner: Reference, theta: Mapping[str, Tensor], task: Episode, noise: Noise
) -> tuple[Tensor, Tensors]:
    """Mean over a sequence of support and queries, and its derivative on the tape."""
    at, options = leaves(theta), learner.options
    both = embedded(learner, at, task, training=True)
    x, y = [*both.support, *both.queries], torch.cat([task.support_y, task.query_y])
    order = sorted(range(len(x)), key=noise["order"].tolist().__getitem__)
    ways = int(y.max()) + 1
    codes = codes_of(options, ways, {n: t for n, t in noise.items() if n == "strings"}, x[0])
    labels = [codes[int(y[i])] for i in order]
    rows = turns(options, at, [x[i] for i in order], labels)
    found = torch.stack([answered(at, turn) for turn in rows])
    if options["labels"] == "strings":
        value = -(of_letters(found) * torch.stack(labels)).sum(1).mean() / 5
    else:
        value = learner.loss(found, y[order])
    return value.detach(), derivative(value, at)


def mann(learner: Reference, theta: Mapping[str, Tensor], task: Episode, noise: Noise) -> Tensor:
    """Logits of each query, which follows the support set."""
    given, options = dict(theta), learner.options
    both = embedded(learner, given, task, training=False)
    codes = codes_of(options, max(both.labels) + 1, noise, both.support[0])
    labels = [codes[y] for y in both.labels]
    shown = turns(options, given, both.support, labels)[-1]
    asked = [torch.cat([query, labels[-1]]) for query in both.queries]
    rows = [turned(options, given, x, shown) for x in asked]
    found = torch.stack([answered(given, turn) for turn in rows])
    return (of_letters(found) @ codes.T if options["labels"] == "strings" else found).detach()


DEFINITIONS: dict[str, Definition] = {"mann": mann_loss}
PREDICTIONS: dict[str, Prediction] = {"mann": mann}
