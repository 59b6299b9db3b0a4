"""Conditional neural processes: the mean of what is made of each example says what a function is.

Garnelo, Rosenbaum, Maddison, Ramalho, Saxton, Shanahan, Teh, Rezende & Eslami, "Conditional Neural
Processes", ICML 2018, equations 1 to 3. With an encoder h and a decoder g,

    r = mean_i h([x_i, y_i]);    (m, s) = g([x, r]);    p(y | x) = N(m, scale(s)^2)

``objective.name = "density"`` trains for the likelihood of that, as published; any other objective
of values takes the mean m alone. Nothing is adapted: a function is what its examples' mean says of
it, whatever their order and number.

Both networks are the recipe's, with inputs and outputs of their own (published: three hidden layers
and two, of 128 units). The scale is bounded from below as in the released code,
scale(s) = c + (1 - c) softplus(s) with c = 0.1.

As published the number of examples differs from training task to training task (``fewest``), and
the examples themselves are predicted, too (``predict_support``; equation 4).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from metadist.algorithms import Parts
from metadist.backbones import Backbone, Norm
from metadist.context import Context
from metadist.discovery import Options as OptionsBase
from metadist.errors import RecipeError
from metadist.inner.passes import passed
from metadist.keys import Key
from metadist.learner import Learner, Loss
from metadist.objectives import Objective
from metadist.tasks import Examples, Params, Prediction, Task, TaskShape

TARGETS = ("values",)


class Options(OptionsBase):
    representation: Annotated[int, Field(ge=1)] = 128
    """R, numbers that say what a function is (published: 128)"""
    least_scale: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """the smallest scale that is predicted (released code: 0.1)"""
    fewest: Annotated[int, Field(ge=0)] = 0
    """learn from a random number of support examples in training, from so many to all; 0: from all
    (published: a random number)"""
    predict_support: bool = False
    """count the support examples among the queries in training (published: yes)"""


@dataclass(frozen=True)
class Part:
    """A network whose parameters stand among all under its name.

    Attributes:
        name: they begin with ``<name>.``.
    """

    name: str
    network: Backbone

    def init(self, key: Key) -> Params:
        """The network's, by their names among all."""
        drawn = self.network.init(key.fold(self.name))
        return {f"{self.name}.{name}": p for name, p in drawn.items()}

    def __call__(self, params: Params, x: Tensor, ctx: Context) -> Tensor:
        """Outputs [n, ...] for x [n, ...]."""
        prefix = f"{self.name}."
        own = {n.removeprefix(prefix): p for n, p in params.items() if n.startswith(prefix)}
        return passed(self.network, own, x, Norm("off"), ctx)[0]


@dataclass(frozen=True)
class Represented:
    """What predicts: all meta-parameters, and r [R]."""

    params: Params
    representation: Tensor


@dataclass(frozen=True)
class CNP(Learner):
    """Two networks and a mean.

    Attributes:
        outputs: E, numbers of a value.
    """

    objective: Objective
    encoder: Part
    decoder: Part
    outputs: int
    options: Options

    @property
    def normalises(self) -> bool:
        """Its networks have no normalisation layers."""
        return False

    def init(self, key: Key) -> Params:
        """Those of both networks."""
        return {**self.encoder.init(key), **self.decoder.init(key)}

    def noise(self, key: Key, ctx: Context) -> dict[str, Tensor]:
        """In training, how many examples to learn from, in (0, 1)."""
        if not self.options.fewest or ctx.phase != "train":
            return {}
        return {"size": key.fold("size").uniform((), torch.float64)}

    def weights(self, support: Examples, ctx: Context) -> Tensor:
        """Of each support example in the mean, [S]; 1/n for the first n of them."""
        size, fewest = len(support), self.options.fewest
        places = torch.arange(size, device=support.x.device)
        kept = counted(support)
        if "size" in ctx.noise and fewest < size:
            kept = kept & (places < fewest + (ctx.noise["size"] * (size - fewest + 1)).floor())
        weights = kept.to(support.x.dtype)
        return weights / weights.sum()

    def adapt(self, params: Params, task: Task, ctx: Context) -> Sequence[Represented]:
        """One element: there are no steps."""
        support = task.support
        pairs = torch.cat([support.x.flatten(1), support.y], 1)
        encoded = self.encoder(params, pairs, ctx)
        return [Represented(params, self.weights(support, ctx) @ encoded)]

    def predict(self, fitted: Represented, query: Examples, ctx: Context) -> Prediction:
        """Mean and scale [n, E] of n queries."""
        x, r = query.x.flatten(1), fitted.representation
        decoded = self.decoder(fitted.params, torch.cat([x, r.expand(len(x), -1)], 1), ctx)
        mean, free = decoded[:, : self.outputs], decoded[:, self.outputs :]
        least = self.options.least_scale
        return Prediction(mean, least + (1 - least) * F.softplus(free))

    def loss(self, params: Params, task: Task, ctx: Context) -> Loss:
        """That of the queries; as the option says, in training of support and queries."""
        if ctx.phase != "train" or not self.options.predict_support:
            return super().loss(params, task, ctx)
        (fitted,) = self.adapt(params, task.view(self.needs), ctx)
        support, query = task.support, task.query
        x, y = (torch.cat([getattr(s, c) for s in (support, query)]) for c in ("x", "y"))
        masked = support.mask is not None or query.mask is not None
        mask = torch.cat([counted(support), counted(query)]) if masked else None
        both = Examples(x, y, mask=mask, name="query")
        prediction = self.predict(fitted, both.without("y"), ctx)
        return Loss(*self.objective.loss_and_metrics(prediction, both))


def counted(examples: Examples) -> Tensor:
    """Which examples count, bool [n]."""
    if examples.mask is not None:
        return examples.mask
    return torch.ones(len(examples), dtype=torch.bool, device=examples.x.device)


def build(parts: Parts[Options]) -> CNP:
    shape, size = parts.shape, parts.options.representation
    inputs, outputs = math.prod(shape.inputs), shape.outputs
    encoder = parts.network(TaskShape((inputs + outputs,), size))
    decoder = parts.network(TaskShape((inputs + size,), 2 * outputs))
    if encoder.norm_layers:
        raise RecipeError(
            "algorithm 'cnp': its networks pass single examples, and need no normalisation; a "
            f"network without such layers is needed, this has {', '.join(encoder.norm_layers)}; "
            "take model.name = 'mlp'"
        )
    return CNP(
        objective=parts.objective,
        encoder=Part("encoder", encoder),
        decoder=Part("decoder", decoder),
        outputs=outputs,
        options=parts.options,
    )
