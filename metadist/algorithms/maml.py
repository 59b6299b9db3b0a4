"""MAML: learn an initialisation from which a few gradient steps fit a new task.

Finn, Abbeel & Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", ICML
2017, algorithms 1 and 2. The meta-gradient goes through all inner steps (second order).
"""

from __future__ import annotations

from metadist.algorithms import Parts
from metadist.discovery import Options as OptionsBase
from metadist.inner.inner_loop import InnerLoop


class Options(OptionsBase):
    adapt_norm: bool = False
    """let the inner loop change scale and shift of normalisation layers too"""


def build(parts: Parts[Options], *, second_order: bool = True) -> InnerLoop:
    return parts.inner_loop(
        InnerLoop, second_order=second_order, adapt_norm=parts.options.adapt_norm
    )
