"""DropBlock: in training contiguous squares of a map of features are dropped.

Ghiasi, Lin & Le, "DropBlock: A regularization method for convolutional networks", NeurIPS 2018,
algorithm 1: a position is the corner of a dropped square with probability

    gamma = rate / size^2 * (H W) / ((H - size + 1) (W - size + 1))

and what is kept is scaled by (all) / (kept). With ``size`` 1 it is dropout, scaled by
1 / (1 - rate).

A pass draws nothing by itself. What is dropped is a function of two numbers of the task, of the
pass and of the place in the network, by a hash of each position: any number of examples, one by one
or under ``vmap``, on any worker, drop the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BITS = 32
_MASK = (1 << BITS) - 1


def mixed(x: Tensor) -> Tensor:
    """A bijection of [0, 2^32) in which each bit of the result depends on all of x, int64.

    Two rounds of multiply and shift (Mueller's hash of 32 bits); no product passes 2^63.
    """
    for _ in range(2):
        x = (((x >> 16) ^ x) * 0x45D9F3B) & _MASK
    return (x >> 16) ^ x


@dataclass(frozen=True)
class Drops:
    """What decides what a pass of a task drops.

    Attributes:
        seed: int64 [2], of the task, each in [0, 2^32).
        step: outer steps that are done.
        salt: of the pass and the place in it.
    """

    seed: Tensor
    step: int
    salt: int = 0

    def at(self, place: int) -> Drops:
        """Others, at a place of this pass."""
        return replace(self, salt=(self.salt * 1_000_003 + place + 1) & _MASK)

    def bits(self, shape: Sequence[int]) -> Tensor:
        """Uniform integers in [0, 2^32), int64."""
        first, second = self.seed[0], self.seed[1]
        x = torch.arange(math.prod(shape), device=self.seed.device)
        x = mixed(x ^ mixed(first ^ self.salt))
        return mixed((x + mixed((second + self.salt) & _MASK)) & _MASK).reshape(tuple(shape))


class DropBlock(nn.Module):
    """See the module of this file. Without :class:`Drops`, as outside training, nothing happens.

    Args:
        rate: share of the numbers that are dropped.
        size: side of a square; on smaller maps the map's.
        over: outer steps over which the rate rises to ``rate``; 0: it is that from the start.
    """

    def __init__(self, rate: float, size: int = 1, over: int = 0) -> None:
        super().__init__()
        self.rate, self.size, self.over = rate, size, over

    def forward(self, x: Tensor) -> Tensor:
        return x

    def rate_at(self, step: int) -> float:
        """The rate when so many outer steps are done."""
        return self.rate * min(1.0, step / self.over) if self.over else self.rate

    def dropped(self, x: Tensor, drops: Drops) -> Tensor:
        """Maps x [n, C, H, W] with what is dropped set to 0 and the rest scaled."""
        rate = self.rate_at(drops.step)
        if rate == 0:
            return x
        *these, height, width = x.shape
        size = min(self.size, height, width)
        high, wide = height - size + 1, width - size + 1
        gamma = rate / size**2 * (height * width) / (high * wide)
        corners = drops.bits((*these, high, wide)) < round(gamma * 2**BITS)
        lost = corners.to(x.dtype)
        if size > 1:
            lost = F.max_pool2d(F.pad(lost, [size - 1] * 4), size, stride=1)
        kept: Tensor = 1 - lost
        if self.size == 1:
            scaled: Tensor = kept / (1 - rate)
        else:
            # All of it is lost where maps are few and small; then there is nothing to scale.
            scaled = kept * (math.prod(x.shape) / kept.sum().clamp_min(1.0))
        return x * scaled
