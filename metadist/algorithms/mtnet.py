"""MT-net: a T-net whose inner loop updates a random, meta-learned choice of units.

Lee & Choi, "Gradient-Based Meta-Learning with Learned Layerwise Metric and Subspace", ICML 2018,
section 3.2. With metric and masks the inner loop can stay in any subspace. A step is phi - alpha *
m * gradient, with a random mask m that is 1 with probability sigmoid(zeta); zeta is meta-learned.
The mask is drawn by comparison, m = 1 where zeta + g1 > g2 with Gumbel noises g1 and g2, and
relaxed to

    s = exp((zeta + g1) / c) / (exp((zeta + g1) / c) + exp(g2 / c)),    c the temperature

for its derivative (Jang, Gu & Poole, "Categorical Reparameterization with Gumbel-Softmax", ICLR
2017). A ``hard`` mask has the value m and the derivative of s: a straight-through estimator. A soft
one is s itself. As in the released code masks are hard, drawn once for each task, and drawn at test
too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from metadist.algorithms import Parts, maml
from metadist.algorithms.tnet import TNet, Transformed
from metadist.context import Context
from metadist.inner.inner_optimizer import Chain, InnerOptimizer, InnerStep
from metadist.inner.sgd import SGD
from metadist.keys import Key
from metadist.learner import Captions, Estimator, LearnedQuantities
from metadist.tasks import Params

SUFFIX = ".logits"


class Options(maml.Options):
    transform: bool = True
    """`false`: the M-net, masks without T"""
    mask_per: Literal["unit", "weight"] = "unit"
    """a mask entry for each output unit, held through a task, or for each weight, drawn anew at
    each inner step (the paper's "-full" networks)"""
    mask: Literal["hard", "soft"] = "hard"
    """0/1 with a straight-through gradient, or the relaxation itself"""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """of the relaxation"""
    mask_at_test: Literal["sampled", "expected"] = "sampled"
    """draw masks outside training, or use their probabilities"""


def gumbel(key: Key, shape: tuple[int, ...]) -> Tensor:
    """Standard Gumbel numbers, float32; always finite: between -3.7 and 36.8."""
    return (-(-key.uniform(shape, torch.float64).log()).log()).float()


def sampled_mask(logits: Tensor, noise: Tensor, temperature: float, hard: bool) -> Tensor:
    """A mask in the shape of its logits from two Gumbel numbers each, noise [2, ...]."""
    soft = torch.sigmoid((logits + noise[0] - noise[1]) / temperature)
    if not hard:
        return soft
    # In this order the value is 0 or 1 without rounding: the bracket is exactly 0.
    return (soft > 0.5).to(soft.dtype) + (soft - soft.detach())


@dataclass(frozen=True)
class Masks(InnerOptimizer):
    """The gradients of some of the parameters, which ones is drawn for each task.

    A mask entry belongs to one output unit: a row of the layer's weights and its bias share it, as
    do scale and shift of a normalised channel. It holds for all steps of a task. With ``per =
    "weight"`` each single parameter has its own, drawn anew at every step: what the released code
    does in that variant.

    Attributes:
        shapes: of the parameters that may be adapted.
        expected: outside training, use the probabilities themselves instead of a draw.
    """

    shapes: Mapping[str, tuple[int, ...]]
    per: Literal["unit", "weight"] = "unit"
    hard: bool = True
    temperature: float = 1.0
    expected: bool = False

    def _group(self, name: str) -> str:
        """Which logits a parameter's mask has."""
        return name if self.per == "weight" else name.rpartition(".")[0]

    def _shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of a parameter's logits."""
        return shape if self.per == "weight" else shape[:1]

    def _noise_name(self, group: str, step: int) -> str:
        """Name of the noise for a step."""
        return f"{group}.{step if self.per == 'weight' else 0}"

    def init(self, adapted: Params, key: Key) -> Params:
        """Logits 0: every mask entry is 0 or 1 with the same probability."""
        shapes = {self._group(name): self._shape(tuple(p.shape)) for name, p in adapted.items()}
        return {f"{group}{SUFFIX}": torch.zeros(shape) for group, shape in shapes.items()}

    def noise(self, key: Key, ctx: Context) -> dict[str, Tensor]:
        """Two Gumbel numbers [2, ...] for each mask entry."""
        if self.expected and ctx.phase != "train":
            return {}
        names = {
            self._noise_name(self._group(name), step): self._shape(shape)
            for step in range(ctx.inner_steps)
            for name, shape in self.shapes.items()
        }
        return {name: gumbel(key.fold("mask", name), (2, *shape)) for name, shape in names.items()}

    def _mask(self, group: str, step: InnerStep) -> Tensor:
        logits = step.meta[f"{group}{SUFFIX}"]
        if self.expected and step.ctx.phase != "train":
            return torch.sigmoid(logits)
        noise = step.ctx.noise[self._noise_name(group, step.index)].to(logits.dtype)
        return sampled_mask(logits, noise, self.temperature, self.hard)

    def update(
        self, gradients: Params, state: Params, adapted: Params, step: InnerStep
    ) -> tuple[Params, Params]:
        masks = {group: self._mask(group, step) for group in {self._group(n): 0 for n in adapted}}
        masked = {}
        for name, p in adapted.items():
            mask = masks[self._group(name)]
            masked[name] = (
                mask.reshape(*mask.shape, *[1] * (p.dim() - mask.dim())) * gradients[name]
            )
        return masked, {}

    def learned_quantities(self, meta: Params) -> LearnedQuantities:
        """Mean probability sigmoid(zeta) of being updated, by layer (by parameter per weight).

        The paper's released code prints the complement under this description.
        """
        probabilities = {n.removesuffix(SUFFIX): torch.sigmoid(zeta) for n, zeta in meta.items()}
        return {"p_update": {name: [float(p.mean())] for name, p in probabilities.items()}}

    @property
    def captions(self) -> Captions:
        text = (
            "p_update is σ(ζ), the probability of being updated: 0 is a frozen layer, 1 one that "
            "every task changes, ½ where it started. The paper's released code prints the "
            "complement under this description."
        )
        return {"p_update": ("p_update: share of units that an inner step changes", text)}


@dataclass(frozen=True)
class MTNet(TNet):
    """A T-net with masks.

    Attributes:
        hard: masks are 0 or 1.
    """

    hard: bool = field(kw_only=True)

    @property
    def estimator(self) -> Estimator:
        """Hard masks are differentiated as their relaxation."""
        return "straight-through" if self.hard else super().estimator


def build(parts: Parts[Options]) -> MTNet:
    options = parts.options
    plain = maml.build(parts)
    # Which parameters have masks, and their shapes; the numbers are thrown away.
    adapted = plain.adapted(plain.backbone.init(Key.of("shapes")))
    masks = Masks(
        {name: tuple(p.shape) for name, p in adapted.items()},
        per=options.mask_per,
        hard=options.mask == "hard",
        temperature=options.temperature,
        expected=options.mask_at_test == "expected",
    )
    return parts.inner_loop(
        MTNet,
        backbone=Transformed(plain.backbone) if options.transform else plain.backbone,
        optimizer=Chain((masks, SGD())),
        adapt_norm=options.adapt_norm,
        hard=masks.hard,
    )
