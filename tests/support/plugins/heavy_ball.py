"""MAML whose inner steps have momentum, with a learned decay for each parameter.

The heavy-ball method of Polyak, "Some methods of speeding up the convergence of iteration methods",
1964, inside the inner loop of Finn, Abbeel & Levine, "Model-Agnostic Meta-Learning", ICML 2017:

    v <- d v + gradient;   phi <- phi - lr v

with v = 0 at the start of a task, the step size ``inner.lr``, and a decay d = sigmoid(logit) for
each weight and bias, whose logit is meta-learned. With one inner step the decay does nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from pydantic import Field

from metadist.algorithms import Parts, maml
from metadist.context import Context
from metadist.inner.inner_loop import InnerLoop
from metadist.inner.inner_optimizer import InnerOptimizer, InnerStep
from metadist.keys import Key
from metadist.learner import LearnedQuantities
from metadist.tasks import Params

PART = "algorithm"


class Options(maml.Options):
    """``decay``: where all of them start."""

    decay: Annotated[float, Field(gt=0, lt=1)] = 0.5


@dataclass(frozen=True)
class HeavyBall(InnerOptimizer):
    """Its meta-parameters are ``<parameter>.decay``, its state is v by parameter."""

    decay: float

    def init(self, adapted: Params, key: Key) -> Params:
        """Logits of equal decays."""
        logit = math.log(self.decay / (1 - self.decay))
        return {f"{name}.decay": torch.tensor(logit) for name in adapted}

    def start(self, meta: Params, adapted: Params, ctx: Context) -> Params:
        """No velocity yet."""
        return {name: torch.zeros_like(p) for name, p in adapted.items()}

    def update(
        self, gradients: Params, state: Params, adapted: Params, step: InnerStep
    ) -> tuple[Params, Params]:
        """What is added to each parameter, and the velocities after the step."""
        decays = {name: torch.sigmoid(step.meta[f"{name}.decay"]) for name in adapted}
        velocity = {name: decays[name] * state[name] + gradients[name] for name in adapted}
        return {name: -step.ctx.inner_lr * v for name, v in velocity.items()}, velocity

    def learned_quantities(self, meta: Params) -> LearnedQuantities:
        """The decays, for people."""
        decays = {name.removesuffix(".decay"): p.sigmoid() for name, p in meta.items()}
        return {"decay": {name: [float(d)] for name, d in decays.items()}}


def build(parts: Parts[Options]) -> InnerLoop:
    """The learner."""
    return replace(maml.build(parts), optimizer=HeavyBall(parts.options.decay))
