"""Attention: values weighted by how well their keys fit a query."""

from __future__ import annotations

from torch import Tensor


def attention(queries: Tensor, keys: Tensor, values: Tensor, scale: float = 1.0) -> Tensor:
    """What queries [Q, D] read of values [S, E] by their keys [S, D], [Q, E].

    softmax over S of ``scale`` times the inner products (Bahdanau, Cho & Bengio, "Neural Machine
    Translation by Jointly Learning to Align and Translate", ICLR 2015; with ``scale`` 1/sqrt(D)
    that of Vaswani et al., "Attention Is All You Need", NeurIPS 2017).
    """
    return (scale * (queries @ keys.T)).softmax(1) @ values
