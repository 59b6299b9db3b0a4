"""Loss and metrics: what is minimised and what is measured on each kind of task.

Everything that differs between kinds in loss, metrics and score is asked here.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from metadist.tasks import TaskKind

Score = Literal["accuracy", "mse"]


def score_name(kind: TaskKind) -> Score:
    """What is measured on tasks of this kind."""
    return "accuracy" if kind == "classification" else "mse"


def higher_is_better(kind: TaskKind) -> bool:
    """Whether a larger score is a better one."""
    return kind == "classification"


def better(kind: TaskKind, score: float, than: float) -> bool:
    """Whether a score is strictly better; NaN never is."""
    return score > than if higher_is_better(kind) else score < than


def metric_names(kind: TaskKind) -> tuple[str, ...]:
    """Names of the metrics that :func:`loss_and_metrics` returns."""
    return ("loss", "accuracy") if kind == "classification" else ("loss",)


def task_loss(kind: TaskKind, outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of logits [n, N], or mean squared error of values [n, E]; a scalar."""
    if kind == "classification":
        return F.cross_entropy(outputs, targets)
    return F.mse_loss(outputs, targets)


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Fraction of rows whose largest logit is the target; ties go to the lowest index."""
    return (outputs.argmax(-1) == targets).to(outputs.dtype).mean()


def loss_and_metrics(
    kind: TaskKind, outputs: Tensor, targets: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss, a scalar to differentiate, and the detached metrics of these predictions."""
    loss = task_loss(kind, outputs, targets)
    metrics = {"loss": loss.detach()}
    if kind == "classification":
        metrics["accuracy"] = accuracy(outputs.detach(), targets)
    return loss, metrics
