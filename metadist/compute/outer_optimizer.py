"""The outer optimizer: PyTorch's own, acting once per step on the averaged meta-gradient."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.optim.adam import adam

from metadist.recipe.rate_changes import rate_after
from metadist.recipe.sections import OuterSection
from metadist.tasks import Params

QUANTITIES = ("step", "exp_avg", "exp_avg_sq")


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

    PyTorch's update functions are called, not its optimizer classes: making one of those imports
    PyTorch's compiler, which costs every process that trains some seconds.

    Args:
        params: initial parameters; copied.
    """

    def __init__(self, params: Params, section: OuterSection) -> None:
        self._section = section
        self._params = {name: p.detach().clone() for name, p in params.items()}
        # Adam's, by quantity and parameter; there from the first step on.
        self._state: dict[str, dict[str, Tensor]] = {}

    @property
    def params(self) -> Params:
        """The current parameters, detached and sharing memory with the optimizer's."""
        return {name: p.detach() for name, p in self._params.items()}

    @torch.no_grad()
    def step(self, gradients: dict[str, Tensor], step: int) -> None:
        """One outer update with the averaged meta-gradient (float64, by name)."""
        found = [gradients[name].to(p.device, p.dtype) for name, p in self._params.items()]
        if self._section.clip:
            found = [g.clamp(-self._section.clip, self._section.clip) for g in found]
        lr = learning_rate(self._section, step)
        if self._section.optimizer == "adam":
            self._adam(found, lr)
        else:
            for p, gradient in zip(self._params.values(), found, strict=True):
                p.add_(gradient, alpha=-lr)

    def _adam(self, gradients: list[Tensor], lr: float) -> None:
        """Kingma & Ba (2015), algorithm 1, with their settings of the decay rates."""
        if not self._state:
            zeros = torch.zeros_like
            self._state = {
                # On the CPU whatever the device: it is a number for the host to compute with.
                "step": {name: torch.tensor(0.0) for name in self._params},
                "exp_avg": {name: zeros(p) for name, p in self._params.items()},
                "exp_avg_sq": {name: zeros(p) for name, p in self._params.items()},
            }
        steps, means, squares = ([*self._state[q].values()] for q in QUANTITIES)
        adam(
            [*self._params.values()],
            gradients,
            means,
            squares,
            [],
            steps,
            foreach=False,
            fused=False,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=lr,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )

    def state(self) -> dict[str, Tensor]:
        """Optimizer state as named tensors on the CPU: ``<quantity>/<parameter>``."""
        return {
            f"{quantity}/{name}": value.cpu().clone()
            for quantity, values in self._state.items()
            for name, value in values.items()
        }

    def load(self, params: Params, state: dict[str, Tensor]) -> None:
        """Put back what :attr:`params` and :meth:`state` gave."""
        for name, p in self._params.items():
            p.copy_(params[name])
        self._state = {}
        for quantity in QUANTITIES if state else ():
            self._state[quantity] = {
                name: state[f"{quantity}/{name}"]
                .to("cpu" if quantity == "step" else p.device)
                .clone()
                for name, p in self._params.items()
            }
