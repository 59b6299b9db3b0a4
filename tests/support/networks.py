"""Small modules as backbones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from metadist.backbones._module import ModuleNetwork
from metadist.tasks import TaskShape

IMAGE, OUTPUTS = (2, 8, 8), 3
SHAPE = TaskShape("classification", IMAGE, OUTPUTS)


def network_of(make: Callable[[], nn.Module], **more: Any) -> ModuleNetwork:
    """The network around a module for images of ``IMAGE`` and ``OUTPUTS`` classes."""
    return ModuleNetwork(f"network {getattr(make, '__name__', 'make')}", make, SHAPE, **more)
