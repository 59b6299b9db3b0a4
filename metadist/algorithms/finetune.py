"""Pre-training and fine-tuning: one network for all tasks, then gradient descent on the support.

The baselines of Finn, Abbeel & Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep
Networks", ICML 2017, section 5.1 (regression: one network fitted to all tasks' examples), and of
Ravi & Larochelle, "Optimization as a Model for Few-Shot Learning", ICLR 2017, section 5
(classification: a network for all training classes, whose head is replaced by a fresh one of N
outputs; 15 updates of all layers, step size and decay chosen on validation tasks).

It learns features or the mean function of its tasks, but not how to adapt: no meta-gradient, no
initialisation meant for few steps, no step size.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from metadist.algorithms import Parts
from metadist.discovery import Options as OptionsBase
from metadist.errors import RecipeError
from metadist.inner.decayed import DecayedSGD
from metadist.inner.inner_loop import InnerLoop
from metadist.inner.pretraining import FineTuning, joint_shape


class Options(OptionsBase):
    """``head_init``: the fresh head starts at zero, or as a fresh network's (a draw per task).

    ``head_lr``: step size of the head, 0 for ``inner.lr``. ``decay``: the step sizes of step t are
    divided by 1 + decay * t. ``adapt_norm``: tune scale and shift of normalisation layers too.
    """

    head_init: Literal["zeros", "drawn"] = "zeros"
    head_lr: Annotated[float, Field(ge=0)] = 0.0
    decay: Annotated[float, Field(ge=0)] = 0.0
    adapt_norm: bool = True


def build(parts: Parts) -> FineTuning:
    """The learner.

    Raises:
        RecipeError: a way to start a fresh head, for regression, which keeps its head.
    """
    options = parts.options
    assert isinstance(options, Options)
    if parts.shape.kind == "regression":
        try:
            options.refuse_idle("classification; a regression keeps its head", "head_init")
        except ValueError as error:
            raise RecipeError(f"algorithm.{error}") from None
    network = parts.backbone
    head = network.layers[-1].parameters if options.head_lr else ()
    return FineTuning(
        network=parts.network(joint_shape(parts.shape)),
        kind=parts.shape.kind,
        loop=InnerLoop(
            backbone=network,
            kind=parts.shape.kind,
            ways=parts.shape.outputs,
            optimizer=DecayedSGD(
                parts.inner_lr, options.decay, dict.fromkeys(head, options.head_lr)
            ),
            second_order=False,
            support_reduction=parts.inner_loss,
            adapt_norm=options.adapt_norm,
        ),
        head=options.head_init,
    )
