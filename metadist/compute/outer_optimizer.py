"""The outer optimizer: PyTorch's own, acting once per step on the averaged meta-gradient."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from metadist.recipe.rate_changes import rate_after
from metadist.recipe.sections import OuterSection
from metadist.tasks import Params


def learning_rate(section: OuterSection, step: int) -> float:
    """The outer learning rate of step ``step`` (from 0)."""
    if section.schedule == "constant":
        return rate_after(section.lr, section.lr_changes, step)
    if section.schedule == "linear":
        return section.lr + (section.final_lr - section.lr) * step / section.steps
    # Cosine from lr to final_lr over the planned steps (Loshchilov & Hutter, 2017).
    share = 0.5 * (1.0 + math.cos(math.pi * step / section.steps))
    return section.final_lr + (section.lr - section.final_lr) * share


def schedule_depends_on_total(section: OuterSection) -> bool:
    """Whether more steps would change the steps already taken."""
    return section.schedule != "constant"


class OuterOptimizer:
    """Parameters and optimizer state.

    Args:
        params: initial parameters; copied.
    """

    def __init__(self, params: Params, section: OuterSection) -> None:
        self._section = section
        self._leaves = {n: p.detach().clone().requires_grad_() for n, p in params.items()}
        leaves = list(self._leaves.values())
        self._optimizer: torch.optim.Optimizer | None = None
        if leaves:  # else a learner without meta-parameters, such as nearest neighbours
            kind = torch.optim.Adam if section.optimizer == "adam" else torch.optim.SGD
            self._optimizer = kind(leaves, lr=section.lr, foreach=False, fused=False)

    @property
    def params(self) -> Params:
        """The current parameters, detached and sharing memory with the optimizer's."""
        return {name: p.detach() for name, p in self._leaves.items()}

    def step(self, gradients: dict[str, Tensor], step: int) -> None:
        """One outer update with the averaged meta-gradient (float64, by name)."""
        if self._optimizer is None:
            return
        for name, leaf in self._leaves.items():
            gradient = gradients[name].to(leaf.device, leaf.dtype)
            if self._section.clip:
                gradient = gradient.clamp(-self._section.clip, self._section.clip)
            leaf.grad = gradient
        for settings in self._optimizer.param_groups:
            settings["lr"] = learning_rate(self._section, step)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """Optimizer state as named tensors on the CPU: ``<quantity>/<parameter>``."""
        state: dict[str, Tensor] = {}
        if self._optimizer is None:
            return state
        for name, leaf in self._leaves.items():
            for quantity, value in self._optimizer.state.get(leaf, {}).items():
                state[f"{quantity}/{name}"] = torch.as_tensor(value).detach().cpu().clone()
        return state

    def load(self, params: Params, state: dict[str, Tensor]) -> None:
        """Put back what :attr:`params` and :meth:`state` gave."""
        with torch.no_grad():
            for name, leaf in self._leaves.items():
                leaf.copy_(params[name])
        if self._optimizer is None:
            return
        self._optimizer.state.clear()
        for key, value in state.items():
            quantity, _, name = key.partition("/")
            leaf = self._leaves[name]
            # Adam keeps its step counter on the CPU whatever the device.
            device = torch.device("cpu") if quantity == "step" else leaf.device
            self._optimizer.state[leaf][quantity] = value.to(device).clone()
