"""The oracle: a network that is told the true parameters of each function.

The upper bound of Finn, Abbeel & Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep
Networks", ICML 2017, section 5.1: the parameters (amplitude and phase of a sinusoid) are further
inputs of a network that is trained on all tasks' examples together. As in the released code it may
take gradient steps on the support at test, but nothing prepares it for them: its figure is the one
after 0 steps, with ``inner.steps = 0`` that of the run.

It learns the family of functions, and nothing of finding out which of them a support set is from.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from metadist.algorithms import Parts
from metadist.algorithms.finetune import FineTuning
from metadist.discovery import Options as OptionsBase
from metadist.errors import RecipeError
from metadist.inner.inner_loop import InnerLoop
from metadist.tasks import Examples, Task

TARGETS = ("values",)


class Options(OptionsBase):
    """None."""


@dataclass(frozen=True)
class Oracle(FineTuning):
    """Joint training on inputs [D + L]."""

    @property
    def needs(self) -> frozenset[str]:
        """The true parameters of a task's function."""
        return frozenset({"latent"})

    def inputs(self, examples: Examples, task: Task) -> Examples:
        """Inputs [n, D + L] of points [n, D]."""
        x, latent = examples.x, task.info["latent"].to(examples.x.dtype)
        return examples.with_x(torch.cat([x, latent.expand(len(x), len(latent))], 1))


def build(parts: Parts[Options]) -> Oracle:
    """The learner.

    Raises:
        RecipeError: the functions have no parameters to be told.
    """
    shape = parts.shape
    if shape.latent == 0:
        raise RecipeError(
            "algorithm 'oracle' needs functions whose true parameters are known; this family "
            "names none in its SPEC.latent"
        )
    network = parts.network(replace(shape, inputs=(shape.inputs[0] + shape.latent,)))
    return Oracle(
        network=network,
        objective=parts.objective,
        ways=shape.ways,
        loop=parts.inner_loop(InnerLoop, backbone=network, second_order=False),
    )
