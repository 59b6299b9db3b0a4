"""ANIL: MAML whose inner loop changes the last layer only.

Raghu, Raghu, Bengio & Vinyals, "Rapid Learning or Feature Reuse? Towards Understanding the
Effectiveness of MAML", ICLR 2020, section 4. The other layers, the body, are learned by the outer
loop alone, also through what they do to the head's inner gradients.
"""

from __future__ import annotations

from metadist.algorithms import Parts
from metadist.discovery import Options as OptionsBase
from metadist.inner.head_loop import HeadLoop


class Options(OptionsBase):
    first_order: bool = False
    """take the inner gradients as constants"""


def build(parts: Parts[Options]) -> HeadLoop:
    return parts.inner_loop(
        HeadLoop,
        second_order=not parts.options.first_order,
        only=frozenset(parts.backbone.layers[-1].parameters),
    )
