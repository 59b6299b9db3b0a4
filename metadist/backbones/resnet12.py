"""ResNet-12, the residual network of the few-shot field.

Three 3x3 convolutions, each normalised, and a 1x1 shortcut in each of four blocks, which end in
max-pooling: Mishra et al., "A Simple Neural Attentive Meta-Learner", ICLR 2018 and Oreshkin,
Rodriguez & Lacoste, "TADAM", NeurIPS 2018 (``growth = "narrow"``: 64-128-256-512 channels), in the
form and with the initialisation of Lee et al., "Meta-Learning with Differentiable Convex
Optimization", CVPR 2019 (``"wide"``: 64-160-320-640).

``drop_rate`` is their regularisation in training: dropout behind the first two blocks, DropBlock
(Ghiasi et al., 2018) behind the others, whose rate rises linearly from 0 (in the released code over
40,000 passes, two to each outer step).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from metadist.backbones._drop_block import DropBlock
from metadist.backbones._from_module import from_module
from metadist.errors import RecipeError

GROWTH = {"wide": (1.0, 2.5, 5.0, 10.0), "narrow": (1.0, 2.0, 4.0, 8.0)}
_GROWN = (
    "channels of the four blocks in times of it: 1, 2.5, 5, 10 (64-160-320-640), or 1, 2, 4, 8 "
    "(64-128-256-512)"
)
_HEAD = "what enters the linear layer: the mean over positions, or all of them"
_DROP = (
    "share of the features that is dropped behind each block in training, by dropout and, behind "
    "the last two blocks, DropBlock (published: 0.1)"
)
_SIZE = "side of the squares that DropBlock drops (published: 5, on images of 32x32 2)"
_OVER = "outer steps over which the rate of DropBlock rises from 0 (published: 20,000); 0: none"
#: Blocks behind which single numbers are dropped; behind the others squares.
SINGLE = 2
#: The checks of the contract, many passes in float64, take a narrow network.
SMALL = {"filters": 8}
#: Slope of the leaky ReLU.
SLOPE = 0.1


class Block(nn.Module):
    """From [n, inputs, H, W] to [n, outputs, H // 2, W // 2]."""

    def __init__(self, inputs: int, outputs: int, drop: nn.Module) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv3 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm3 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.shortcut_norm = nn.BatchNorm2d(outputs)
        self.drop = drop

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.norm1(self.conv1(x)), SLOPE)
        y = F.leaky_relu(self.norm2(self.conv2(y)), SLOPE)
        y = self.norm3(self.conv3(y)) + self.shortcut_norm(self.shortcut(x))
        dropped: Tensor = self.drop(F.max_pool2d(F.leaky_relu(y, SLOPE), 2))
        return dropped


class ResNet12(nn.Module):
    """The network."""

    def __init__(
        self,
        inputs: tuple[int, ...],
        outputs: int,
        filters: Annotated[int, Field(ge=2, description="channels of the first block")] = 64,
        growth: Annotated[Literal["wide", "narrow"], Field(description=_GROWN)] = "wide",
        head: Annotated[Literal["mean", "flatten"], Field(description=_HEAD)] = "mean",
        drop_rate: Annotated[float, Field(ge=0, lt=1, description=_DROP)] = 0.0,
        drop_size: Annotated[int, Field(ge=1, description=_SIZE)] = 5,
        drop_over: Annotated[int, Field(ge=0, description=_OVER)] = 20_000,
    ) -> None:
        super().__init__()
        if len(inputs) != 3 or min(inputs[1:]) < 16:
            raise RecipeError(f"images [C, H, W] of 16x16 or more are needed, got {inputs}")
        channels = [inputs[0], *(int(filters * factor) for factor in GROWTH[growth])]
        squares = DropBlock(drop_rate, drop_size, drop_over)
        drops = [DropBlock(drop_rate) if block < SINGLE else squares for block in range(4)]
        pairs = zip(pairwise(channels), drops, strict=True)
        self.blocks = nn.Sequential(*(Block(*pair, drop) for pair, drop in pairs))
        self.flat = head == "flatten"
        area = (inputs[1] // 16) * (inputs[2] // 16) if self.flat else 1
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="leaky_relu")
        self.head = nn.Linear(channels[-1] * area, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(x)
        features: Tensor = x.flatten(1) if self.flat else x.mean((2, 3))
        logits: Tensor = self.head(features)
        return logits


Options, build = from_module(ResNet12)
