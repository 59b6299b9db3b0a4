"""A convolutional auto-encoder for images of any size, and the critic of its interpolations.

The embedding has about 4 x 4 places: each convolution of the encoder halves the sides, each of the
decoder doubles them, and has twice or half as many channels. Images are padded with zeros to sides
that can be halved so often.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: Places of the embedding along a side, about.
_PLACES = 4
_SLOPE = 0.2


class AutoEncoder(nn.Module):
    """Encoder and decoder of images [n, C, H, W] in [-1, 1].

    Args:
        shape: (H, W, C) of an image.
        latent: channels of the embedding.
        width: channels of the first convolution.
    """

    def __init__(self, shape: tuple[int, int, int], latent: int, width: int) -> None:
        super().__init__()
        height, across, channels = shape
        self.sides = height, across
        self.halvings = max(1, round(math.log2(max(height, across) / _PLACES)))
        self.encoder = _halving(channels, latent, width, self.halvings)
        layers: list[nn.Module] = []
        inside = latent
        for level in reversed(range(self.halvings)):
            layers += [_convolution(inside, width << level), nn.LeakyReLU(_SLOPE)]
            layers.append(nn.Upsample(scale_factor=2))
            inside = width << level
        self.decoder = nn.Sequential(*layers, _convolution(inside, channels))

    def encode(self, x: Tensor) -> Tensor:
        """The embedding [n, latent, h, w] of images."""
        encoded: Tensor = self.encoder(padded(x, self.halvings))
        return encoded

    def decode(self, z: Tensor) -> Tensor:
        """The images [n, C, H, W] of embeddings."""
        height, width = self.sides
        decoded: Tensor = self.decoder(z)
        return decoded[:, :, :height, :width]


class Critic(nn.Module):
    """Says of images [n, C, H, W] how much they are mixed, [n]."""

    def __init__(self, shape: tuple[int, int, int], latent: int, width: int) -> None:
        super().__init__()
        height, across, channels = shape
        self.halvings = max(1, round(math.log2(max(height, across) / _PLACES)))
        self.layers = _halving(channels, latent, width, self.halvings)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.layers(padded(x, self.halvings)).mean(dim=(1, 2, 3))
        return mixed


def padded(x: Tensor, halvings: int) -> Tensor:
    """Images with zeros at right and bottom, so that their sides can be halved so often."""
    height, width = x.shape[-2:]
    unit = 1 << halvings
    return F.pad(x, (0, -width % unit, 0, -height % unit))


def _halving(channels: int, latent: int, width: int, halvings: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for level in range(halvings):
        layers += [_convolution(channels, width << level, stride=2), nn.LeakyReLU(_SLOPE)]
        channels = width << level
    return nn.Sequential(*layers, _convolution(channels, latent))


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)
    nn.init.kaiming_normal_(layer.weight, a=_SLOPE)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def as_inputs(images: Tensor) -> Tensor:
    """Pixels uint8 [n, H, W, C] as inputs float32 [n, C, H, W] in [-1, 1]."""
    return images.permute(0, 3, 1, 2).to(torch.float32) / 127.5 - 1
