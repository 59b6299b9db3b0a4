"""MAML in a network that is fed a learned constant vector, which the inner loop adapts too.

Finn & Levine, "Meta-Learning and Universality: Deep Representations and Gradient Descent Can
Approximate Any Learning Algorithm", ICLR 2018. One gradient step in a deep enough ReLU network can
approximate any function of support set and query; the vector is how its proof lets labels reach the
first layer. For images it is ``size`` constant channels, which batch normalisation takes away again
except at the borders: it is of use in networks without.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from pydantic import Field

from metadist.algorithms import Parts, maml
from metadist.inner.inner_loop import InnerLoop
from metadist.inner.input_bias import InputBias


class Options(maml.Options):
    """``size``: numbers of the vector."""

    size: Annotated[int, Field(ge=1)] = 10


def build(parts: Parts) -> InnerLoop:
    """The learner."""
    options, shape = parts.options, parts.shape
    assert isinstance(options, Options)
    wider = replace(shape, inputs=(shape.inputs[0] + options.size, *shape.inputs[1:]))
    return replace(maml.build(parts), backbone=InputBias(parts.network(wider), options.size))
