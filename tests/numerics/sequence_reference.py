"""What learners over sequences should compute, written from their papers' equations.

Nothing here calls the code under test: sequences are whole, and none shares anything with another.
SNAIL (Mishra et al., 2018).
"""

from __future__ import annotations

import torch
from torch import Tensor

from tests.numerics.metric_reference import Features, definition, prediction, sigmoid
from tests.numerics.reference import Definition, Prediction, Reference, Tensors


def affine(theta: Tensors, name: str, x: Tensor) -> Tensor:
    """W x + b of each row."""
    return x @ theta[f"{name}.weight"].T + theta[f"{name}.bias"]


def convolved(theta: Tensors, name: str, x: Tensor, dilation: int) -> Tensor:
    """Torch's convolution of width two along sequences [n, T, C], padded on the left."""
    taps = [theta[f"{name}.{part}.weight"] for part in ("before", "here")]
    zeros = torch.zeros_like(x[:, :1]).expand(-1, dilation, -1)
    padded = torch.cat([zeros, x], 1).transpose(1, 2)
    bias = theta[f"{name}.here.bias"]
    return torch.conv1d(padded, torch.stack(taps, 2), bias, dilation=dilation).transpose(1, 2)


def dense_block(theta: Tensors, name: str, x: Tensor, dilation: int) -> Tensor:
    """[x; tanh(conv(x)) * sigmoid(conv(x))] (figure 2 a)."""
    value, gate = (convolved(theta, f"{name}.{part}", x, dilation) for part in ("value", "gate"))
    return torch.cat([x, torch.tanh(value) * sigmoid(gate)], 2)


def attention_block(theta: Tensors, name: str, x: Tensor) -> Tensor:
    """[x; what a place reads of the places up to its own] (figure 2 c)."""
    query, key, value = (affine(theta, f"{name}.{part}", x) for part in ("query", "key", "value"))
    powers = torch.exp(query @ key.transpose(1, 2) / key.shape[2] ** 0.5).tril()
    return torch.cat([x, powers @ value / powers.sum(2, keepdim=True)], 2)


def attended(theta: Tensors, x: Tensor, layers: int) -> Tensor:
    """Sequences [n, T, C] after all blocks: attention, TC, attention, TC, attention."""
    number = 0
    for block in ("attention", "TC", "attention", "TC", "attention"):
        if block == "attention":
            x = attention_block(theta, f"snail.{number}", x)
            number += 1
            continue
        for layer in range(layers):
            x = dense_block(theta, f"snail.{number}.{layer}", x, 2**layer)
        number += layers
    return x


def snail(learner: Reference, theta: Tensors, found: Features) -> Tensor:
    """Of each query a sequence: the support set with its labels, then the query without one."""
    ways = len(theta["snail.classifier.weight"])
    labels = torch.zeros(len(found.labels) + 1, ways, dtype=found.queries[0].dtype)
    for row, label in enumerate(found.labels):
        labels[row, label] = 1
    sequences = []
    for query in found.queries:
        embedded = affine(theta, "snail.embedding", torch.stack([*found.support, query]))
        sequences.append(torch.cat([embedded, labels], 1))
    places = attended(theta, torch.stack(sequences), learner.options["layers"])
    return affine(theta, "snail.classifier", places[:, -1])


DEFINITIONS: dict[str, Definition] = {"snail": definition(snail)}
PREDICTIONS: dict[str, Prediction] = {"snail": prediction(snail)}
