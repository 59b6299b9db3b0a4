"""Conditional neural process: a function's value and its uncertainty from a set of points.

Garnelo et al., "Conditional Neural Processes", ICML 2018, section 3. With networks h and g,

    r = mean over the support points of h(x_i, y_i)
    mean, raw = g(x, r);  scale = least + (1 - least) * softplus(raw)

the last as in their released code. There is no inner loop. What is learned is decided by the
recipe's objective: a likelihood trains the scale too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from metadist.algorithms import Parts
from metadist.backbones import Backbone, Norm
from metadist.context import Context
from metadist.discovery import Options as Base
from metadist.errors import RecipeError
from metadist.keys import Key
from metadist.learner import Learner
from metadist.objectives import Objective
from metadist.tasks import Examples, Params, Prediction, Task, TaskShape

PART = "algorithm"
TARGETS = ("values",)


class Options(Base):
    """``representation``: size of r; ``least_scale``: below which no predicted scale falls."""

    representation: Annotated[int, Field(ge=1)] = 32
    least_scale: Annotated[float, Field(gt=0, lt=1)] = 0.1


def part(params: Params, prefix: str) -> Params:
    """The parameters of one of the networks, by its own names."""
    return {n.removeprefix(prefix): p for n, p in params.items() if n.startswith(prefix)}


@dataclass(frozen=True)
class Fitted:
    """What predicts: all parameters, and r [R]."""

    params: Params
    representation: Tensor


@dataclass(frozen=True)
class SetRegression(Learner):
    """The learner.

    Attributes:
        encoder, decoder: h and g, both the recipe's network.
    """

    objective: Objective
    encoder: Backbone
    decoder: Backbone
    least_scale: float

    def init(self, key: Key) -> Params:
        """Those of both networks."""
        both = {"encoder.": self.encoder, "decoder.": self.decoder}
        return {
            f"{prefix}{name}": p
            for prefix, network in both.items()
            for name, p in network.init(key.fold(prefix)).items()
        }

    def adapt(self, params: Params, task: Task, ctx: Context) -> list[Fitted]:
        """One element: there are no steps."""
        pairs = torch.cat([task.support.x, task.support.y], 1)
        found = self.encoder.forward(part(params, "encoder."), pairs, Norm("off"))
        return [Fitted(params, found.value.mean(0))]

    def predict(self, fitted: Fitted, query: Examples, ctx: Context) -> Prediction:
        """Mean and scale [n, E]."""
        r = fitted.representation.expand(len(query), -1)
        own = part(fitted.params, "decoder.")
        found = self.decoder.forward(own, torch.cat([query.x, r], 1), Norm("off"))
        mean, raw = found.value.chunk(2, 1)
        return Prediction(mean, self.least_scale + (1 - self.least_scale) * F.softplus(raw))


def build(parts: Parts[Options]) -> SetRegression:
    """The learner.

    Raises:
        RecipeError: inputs that are no vectors, or a network that normalises.
    """
    shape, options = parts.shape, parts.options
    if len(shape.inputs) != 1:
        raise RecipeError(f"set_regression needs inputs (D,), the data have {shape.inputs}")
    (inputs,), outputs = shape.inputs, shape.outputs
    encoder = parts.network(TaskShape((inputs + outputs,), options.representation))
    decoder = parts.network(TaskShape((inputs + options.representation,), 2 * outputs))
    if encoder.norm_layers:
        raise RecipeError(
            "set_regression has no statistics for normalisation layers; take a network without "
            f"(mlp), this one has {', '.join(encoder.norm_layers)}"
        )
    return SetRegression(parts.objective, encoder, decoder, options.least_scale)
