"""What baselines should predict: numpy, plain loops of autograd and PyTorch's own optimisers.

Joint training (``finetune``, ``oracle``, ``nearest_embedding``), a network for each task
(``scratch``) and the nearest neighbour. Nothing here calls the code under test.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

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

# --- what is near ---------------------------------------------------------------------------------


def similarity(metric: str, a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of two vectors (0 if one of them is zero), or minus their distance."""
    if metric == "cosine":
        lengths = np.sqrt(np.dot(a, a)) * np.sqrt(np.dot(b, b))
        return float(np.dot(a, b) / lengths) if lengths > 0 else 0.0
    return -float(np.sqrt(np.sum((a - b) ** 2)))


def nearest(
    options: Mapping[str, str], queries: np.ndarray, support: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    """Similarity [Q, N] to the nearest example, or to the mean of the examples, of each class."""
    rows = []
    for query in queries:
        row = []
        for way in range(labels.max() + 1):
            own = [support[i] for i in range(len(labels)) if labels[i] == way]
            if options["rule"] == "mean":
                own = [sum(own) / len(own)]
            row.append(max(similarity(options["metric"], query, one) for one in own))
        rows.append(row)
    return np.array(rows)


def nearest_pixels(
    learner: Reference, theta: Mapping[str, Tensor], task: Episode, noise: Noise
) -> Tensor:
    """On the pixels themselves."""
    pixels = [x.reshape(len(x), -1).numpy() for x in (task.query_x, task.support_x)]
    found = nearest(learner.options, pixels[0], pixels[1], task.support_y.numpy())
    return torch.from_numpy(found)


# --- gradient descent in the new task -------------------------------------------------------------


def head(theta: Mapping[str, Tensor]) -> str:
    """The name of the last layer."""
    return "head" if "head.weight" in theta else f"linear{len(theta) // 2}"


def descended(
    learner: Reference,
    start: Mapping[str, Tensor],
    task: Episode,
    optimizer: str = "sgd",
    rates: Mapping[str, float] | None = None,
    decay: float = 0.0,
) -> Tensors:
    """Parameters after steps of a PyTorch optimiser on the support set."""
    phi = leaves(start)
    rates = rates or {}
    groups = [
        {"params": [p], "lr": rates.get(n, learner.lr)}
        for n, p in phi.items()
        if learner.adapted(n)
    ]
    kind = torch.optim.Adam if optimizer == "adam" else torch.optim.SGD
    descent = kind(groups, lr=learner.lr)
    slower = torch.optim.lr_scheduler.LambdaLR(descent, lambda t: 1.0 / (1.0 + decay * t))
    for step in range(learner.steps):
        descent.zero_grad()
        learner.support_loss(phi, task, step).backward()
        descent.step()
        slower.step()
    return {n: p.detach() for n, p in phi.items()}


def tuned(
    learner: Reference, start: Mapping[str, Tensor], task: Episode, *how: Any, **more: Any
) -> Tensor:
    """Outputs after such steps."""
    return learner.query_outputs(descended(learner, start, task, *how, **more), task)


def fresh_head(theta: Mapping[str, Tensor], task: Episode) -> Tensors:
    """The trained network with a head of zeros for the task's ways."""
    last, ways = head(theta), int(task.support_y.max()) + 1
    names = [f"{last}.weight", f"{last}.bias"]
    return dict(theta) | {n: theta[n].new_zeros(ways, *theta[n].shape[1:]) for n in names}


def scratch(learner: Reference, theta: Mapping[str, Tensor], task: Episode, noise: Noise) -> Tensor:
    """From the network that the task has drawn."""
    assert not theta
    fresh = {n: p.to(task.query_x.dtype) for n, p in noise.items()}
    return tuned(learner, fresh, task, learner.options["optimizer"])


def finetune(
    learner: Reference, theta: Mapping[str, Tensor], task: Episode, noise: Noise
) -> Tensor:
    """From the trained network; in classification with a new head."""
    start, last, options = dict(theta), head(theta), learner.options
    parts = [f"{last}.weight", f"{last}.bias"]
    if not task.query_y.is_floating_point():
        start = fresh_head(theta, task)
        if options["head_init"] == "drawn":
            start |= {name: noise[name].to(start[name].dtype) for name in parts}
    rates = dict.fromkeys(parts, options["head_lr"]) if options["head_lr"] else {}
    return tuned(learner, start, task, rates=rates, decay=options["decay"])


def _told(task: Episode) -> Episode:
    """The episode with the true parameters behind each input."""
    latent = task.info["latent"]

    def beside(x: Tensor) -> Tensor:
        return torch.stack([torch.cat([point, latent]) for point in x])

    return task._replace(support_x=beside(task.support_x), query_x=beside(task.query_x))


def oracle(learner: Reference, theta: Mapping[str, Tensor], task: Episode, noise: Noise) -> Tensor:
    """Descent of a network that is told the true parameters."""
    return tuned(learner, theta, _told(task))


def nearest_embedding(
    learner: Reference, theta: Mapping[str, Tensor], task: Episode, noise: Noise
) -> Tensor:
    """On what enters the head: the outputs of a network whose head is the identity.

    Tuned before, with another head, where that is asked for.
    """
    last = head(theta)
    if learner.options["fine_tune"]:
        everything = replace(learner, adapted=lambda name: True)
        theta = descended(everything, fresh_head(theta, task), task)
    width = theta[f"{last}.weight"].shape[1]
    body = dict(theta) | {
        f"{last}.weight": torch.eye(width, dtype=task.query_x.dtype),
        f"{last}.bias": torch.zeros(width, dtype=task.query_x.dtype),
    }
    support = learner.net(body, task.support_x, "off" if learner.norm == "none" else "batch", 0)[0]
    query = learner.query_outputs(body, task, 0)
    found = nearest(learner.options, query.numpy(), support.numpy(), task.support_y.numpy())
    return torch.from_numpy(found)


# --- joint training -------------------------------------------------------------------------------


def joint(
    learner: Reference, theta: Mapping[str, Tensor], task: Episode, noise: Noise
) -> tuple[Tensor, Tensors]:
    """The mean loss of all examples, each of its class among all training classes."""
    start = leaves(theta)
    x = torch.cat([task.support_x, task.query_x])
    y = torch.cat([task.support_y, task.query_y])
    if not y.is_floating_point():
        y = torch.tensor([int(task.info["class_ids"][way]) for way in y.tolist()])
    outputs, _ = learner.net(start, x, "off" if learner.norm == "none" else "batch", 0)
    value = learner.loss(outputs, y)
    return value.detach(), derivative(value, start)


def joint_told(
    learner: Reference, theta: Mapping[str, Tensor], task: Episode, noise: Noise
) -> tuple[Tensor, Tensors]:
    """The same with the true parameters behind each input."""
    return joint(learner, theta, _told(task), noise)


DEFINITIONS: dict[str, Definition] = {
    "finetune": joint,
    "nearest_embedding": joint,
    "oracle": joint_told,
}
PREDICTIONS: dict[str, Prediction] = {
    "finetune": finetune,
    "nearest_embedding": nearest_embedding,
    "nearest_pixels": nearest_pixels,
    "oracle": oracle,
    "scratch": scratch,
}
