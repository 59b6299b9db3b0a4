"""MT-net: a T-net whose inner loop updates a random, meta-learned choice of units.

Lee & Choi, "Gradient-Based Meta-Learning with Learned Layerwise Metric and Subspace", ICML 2018,
section 3.2. With metric and masks the inner loop can stay in any subspace. As in the released code
masks are hard, drawn once for each task, and drawn at test too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from metadist.algorithms import Parts, maml
from metadist.algorithms.tnet import TNet
from metadist.inner.mask import Mask
from metadist.inner.transform import Transformed
from metadist.keys import Key
from metadist.learner import Estimator


class Options(maml.Options):
    """``transform``: False is the M-net, masks without T.

    ``mask_per``: a mask entry for each output unit, held through a task, or for each weight, drawn
    anew at each inner step (the paper's "-full" networks). ``mask``: 0/1 with a straight-through
    gradient, or the relaxation itself, at ``temperature``. ``mask_at_test``: outside training, draw
    masks or use their probabilities.
    """

    transform: bool = True
    mask_per: Literal["unit", "weight"] = "unit"
    mask: Literal["hard", "soft"] = "hard"
    temperature: Annotated[float, Field(gt=0)] = 1.0
    mask_at_test: Literal["sampled", "expected"] = "sampled"


@dataclass(frozen=True)
class MTNet(TNet):
    """A T-net with masks."""

    @property
    def estimator(self) -> Estimator:
        """Hard masks are differentiated as their relaxation."""
        hard = isinstance(self.optimizer, Mask) and self.optimizer.hard
        return "straight-through" if hard else super().estimator


def build(parts: Parts) -> MTNet:
    """The learner."""
    options = parts.options
    assert isinstance(options, Options)
    plain = maml.build(parts)
    # Which parameters have masks, and their shapes; the numbers are thrown away.
    adapted = plain.adapted(plain.backbone.init(Key.of("shapes")))
    return MTNet(
        backbone=Transformed(plain.backbone) if options.transform else plain.backbone,
        kind=parts.shape.kind,
        ways=parts.shape.outputs,
        optimizer=Mask(
            parts.inner_lr,
            {name: tuple(p.shape) for name, p in adapted.items()},
            per=options.mask_per,
            hard=options.mask == "hard",
            temperature=options.temperature,
            expected=options.mask_at_test == "expected",
        ),
        support_reduction=parts.inner_loss,
        adapt_norm=options.adapt_norm,
    )
