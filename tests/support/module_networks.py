"""Small modules as backbones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from metadist.backbones._module import ModuleNetwork
from metadist.tasks import TaskShape

IMAGE, OUTPUTS = (2, 8, 8), 3
SHAPE = TaskShape(IMAGE, OUTPUTS, ways=OUTPUTS)


def network_of(
    make: Callable[[], nn.Module], shape: TaskShape = SHAPE, **more: Any
) -> ModuleNetwork:
    """The network around a module, for images of ``IMAGE`` and ``OUTPUTS`` classes."""
    return ModuleNetwork(f"network {getattr(make, '__name__', 'make')}", make, shape, **more)


class Tied(nn.Module):
    """Two layers that share a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.flat = nn.Flatten()
        self.one = nn.Linear(128, 128)
        self.two = nn.Linear(128, 128)
        self.two.weight = self.one.weight
        self.head = nn.Linear(128, OUTPUTS)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.tanh(self.two(torch.tanh(self.one(self.flat(x))))))
        return logits


class Shared(nn.Module):
    """Batch normalisation before the first layer, in two places by one module, and at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.BatchNorm2d(2, affine=False)
        self.conv = nn.Conv2d(2, 4, 3)
        self.twice = nn.BatchNorm2d(4, eps=0.1)
        self.again = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, OUTPUTS)
        self.last = nn.BatchNorm1d(OUTPUTS)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.twice(self.conv(self.before(input=x))))
        x = torch.tanh(self.twice(self.again(x)))
        logits: Tensor = self.last(self.head(input=x.mean((2, 3))))
        return logits


class Masked(nn.Module):
    """A constant, and attention over the rows of an image."""

    mask: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.linspace(0.5, 1, 16))
        layer = nn.TransformerEncoderLayer(16, 2, 8, dropout=0.0, batch_first=True)
        self.body = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(16, OUTPUTS)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.movedim(2, 1).flatten(2) * self.mask
        logits: Tensor = self.head(self.body(rows).mean(1))
        return logits


class Sequence(nn.Module):
    """Rows as a sequence."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(4, OUTPUTS)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2).transpose(1, 2)
        y = self.body(x, x, x)[0] if isinstance(self.body, nn.MultiheadAttention) else self.body(x)
        out: Tensor = self.head((y[0] if isinstance(y, tuple) else y).mean(1))
        return out


class Recurrent(nn.Module):
    """An LSTM over the rows of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.LSTM(16, 4, batch_first=True)
        self.head = nn.Linear(4, OUTPUTS)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(x.movedim(2, 1).flatten(2))[0][:, -1])
        return logits


class Branching(nn.Module):
    """A pass that depends on the sign of a number."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(128, 8)
        self.head = nn.Linear(8, OUTPUTS)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x.flatten(1))
        logits: Tensor = self.head(x.tanh() if x.mean() > 0 else x.sigmoid())
        return logits


class Bottleneck(nn.Module):
    """A residual block with a shortcut, as torchvision has it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride=2, bias=False), nn.BatchNorm2d(outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y += self.downsample(x)
        out: Tensor = self.relu(y)
        return out


def residual() -> nn.Module:
    """Two residual blocks."""
    body = (Bottleneck(2, 4), Bottleneck(4, 6))
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, OUTPUTS))


def normalised(norm: Callable[[], nn.Module]) -> nn.Module:
    """A convolution with a normalisation of 4 channels of 6x6."""
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), norm(), nn.Tanh(), nn.Flatten(), nn.Linear(144, OUTPUTS)
    )


def group() -> nn.Module:
    """Group normalisation."""
    return normalised(lambda: nn.GroupNorm(2, 4))


def layer() -> nn.Module:
    """Layer normalisation, of whole maps."""
    return normalised(lambda: nn.LayerNorm((4, 6, 6)))


def instance() -> nn.Module:
    """Instance normalisation."""
    return normalised(lambda: nn.InstanceNorm2d(4, affine=True))


def without_affine() -> nn.Module:
    """Batch normalisation without parameters."""
    return normalised(lambda: nn.BatchNorm2d(4, affine=False))


#: Each with the names of its constants.
MODULES: dict[Callable[[], nn.Module], tuple[str, ...]] = {
    Tied: (),
    Shared: (),
    Masked: ("mask",),
    Recurrent: (),
    Branching: (),
    residual: (),
    group: (),
    layer: (),
    instance: (),
    without_affine: (),
}
#: Those that vmap cannot take.
ONE_BY_ONE = (Recurrent, Branching)
