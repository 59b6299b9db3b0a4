"""First-order MAML: MAML with the inner gradients taken as constants.

Finn, Abbeel & Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", ICML
2017, section 5.2. The meta-gradient of a task is the gradient of its query loss at the adapted
parameters.
"""

from __future__ import annotations

from metadist.algorithms import Parts, maml
from metadist.inner.inner_loop import InnerLoop

Options = maml.Options


def build(parts: Parts[Options]) -> InnerLoop:
    return maml.build(parts, second_order=False)
