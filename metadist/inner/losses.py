"""Losses and scores of classification and regression tasks."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from metadist.tasks import TaskKind


def task_loss(kind: TaskKind, outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of logits [n, N], or mean squared error of values [n, E]; a scalar."""
    if kind == "classification":
        return F.cross_entropy(outputs, targets)
    return F.mse_loss(outputs, targets)


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Fraction of rows whose largest logit is the target; ties go to the lowest index."""
    return (outputs.argmax(-1) == targets).to(outputs.dtype).mean()
