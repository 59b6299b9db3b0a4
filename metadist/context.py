"""What a learner may know beside its parameters and a task, and the one way to a gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from metadist.tasks import Params, Phase

NormMode = Literal["transductive", "support", "running", "none"]


@dataclass(frozen=True)
class Context:
    """What a learner may know beside its parameters and a task.

    Attributes:
        phase: train, val or test.
        step, total_steps: outer steps done and planned.
        inner_steps: adaptation steps to take in this phase.
        trained_steps: adaptation steps taken in training; per-step quantities end there.
        norm: how normalisation layers get their statistics.
        inner_lr: ``inner.lr`` of the recipe at this outer step.
        functional: take gradients through ``torch.func`` (needed under ``vmap``) instead of the
            tape, which is faster for one task at a time.
        state: outer state of the learner that is not trained by gradient (running statistics).
        noise: this task's random numbers.
        step_scalars: the learner's scalars of all tasks of this step, each [B]; constants.
    """

    phase: Phase
    step: int
    total_steps: int
    inner_steps: int
    trained_steps: int
    norm: NormMode
    inner_lr: float = 0.0
    functional: bool = False
    state: Mapping[str, Tensor] = field(default_factory=dict)
    noise: Mapping[str, Tensor] = field(default_factory=dict)
    step_scalars: Mapping[str, Tensor] = field(default_factory=dict)

    def for_task(self, noise: Mapping[str, Tensor]) -> Context:
        """This context for a task with these random numbers."""
        return replace(self, noise=noise)

    def grad(
        self,
        loss: Callable[[Params], tuple[Tensor, Any]],
        params: Params,
        *,
        second_order: bool = False,
    ) -> tuple[Params, Any]:
        """The gradient of ``loss`` at ``params``: the only way a learner takes one.

        With ``second_order`` the result can be differentiated with respect to whatever ``params``
        depend on; without it, it is a constant. ``functional`` uses ``torch.func.grad``, which
        nests under ``vmap``; otherwise the tape is used.

        Args:
            loss: returns a scalar, and tensors (in tuples and dictionaries) to pass on.

        Returns:
            Gradients by name, and what was to be passed on.
        """
        if self.functional:
            gradients, extra = torch.func.grad(loss, has_aux=True)(params)
            if not second_order:
                gradients = {name: g.detach() for name, g in gradients.items()}
            return gradients, extra
        differentiable = second_order and torch.is_grad_enabled()
        with torch.enable_grad():
            leaves = {
                name: p
                if differentiable and p.requires_grad
                else p.detach().requires_grad_(p.is_floating_point())
                for name, p in params.items()
            }
            value, extra = loss(leaves)
            tensors = torch.autograd.grad(
                value, list(leaves.values()), create_graph=differentiable, materialize_grads=True
            )
        return dict(zip(leaves, tensors, strict=True)), extra
