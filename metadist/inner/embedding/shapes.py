"""What an encoder's features look like."""

from __future__ import annotations

import torch

from metadist.backbones import Norm
from metadist.inner.backbone_wrapper import Encoder
from metadist.keys import Key


def feature_shape(encoder: Encoder, inputs: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of an example's features: (C, H, W) where they are a flattened map, else (D,).

    Found by a pass over an example of shape ``inputs``: a map is one if the activations of the
    encoder's last layer are the features.
    """
    key = Key.of("metadist", "feature shape")
    with torch.no_grad():
        passed = encoder.forward(encoder.init(key), key.uniform((1, *inputs)), Norm("off"))
    last = passed.activations.get(encoder.layers[-1].name)
    if last is not None and last.dim() == 4 and torch.equal(last.flatten(1), passed.value):
        return tuple(last.shape[1:])
    return tuple(passed.value.shape[1:])
