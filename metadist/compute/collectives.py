"""The workers of a run as one group; a single process is a group of size one."""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor


class Group(Protocol):
    """Collectives over all workers. Every worker calls them in the same order."""

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...

    def max_(self, tensor: Tensor) -> None:
        """Replace ``tensor`` by the elementwise maximum over workers."""

    def sum_(self, tensor: Tensor) -> None:
        """Replace ``tensor`` by the elementwise sum over workers."""

    def broadcast(self, value: Any) -> Any:
        """Rank 0's value on every worker; small JSON-like objects only."""

    def broadcast_tensors(self, tensors: dict[str, Tensor] | None) -> dict[str, Tensor]:
        """Rank 0's named tensors on every worker."""


class Solo:
    """This process alone."""

    rank, size = 0, 1

    def max_(self, tensor: Tensor) -> None:
        """Nothing to do."""

    sum_ = max_

    def broadcast(self, value: Any) -> Any:
        return value

    def broadcast_tensors(self, tensors: dict[str, Tensor] | None) -> dict[str, Tensor]:
        assert tensors is not None
        return tensors


class Workers:
    """The default process group of ``torch.distributed``, set up by whoever started us.

    Args:
        device: where collectives want their tensors (CPU for gloo, the GPU for NCCL).
    """

    def __init__(self, device: torch.device) -> None:
        self.rank = dist.get_rank()
        self.size = dist.get_world_size()
        self._device = device

    def _reduce(self, tensor: Tensor, operation: Any) -> None:
        moved = tensor.to(self._device)
        dist.all_reduce(moved, operation)
        if moved is not tensor:
            tensor.copy_(moved)

    def max_(self, tensor: Tensor) -> None:
        self._reduce(tensor, dist.ReduceOp.MAX)

    def sum_(self, tensor: Tensor) -> None:
        self._reduce(tensor, dist.ReduceOp.SUM)

    def broadcast(self, value: Any) -> Any:
        box = [value if self.rank == 0 else None]
        dist.broadcast_object_list(box, src=0, device=self._device)
        return box[0]

    def broadcast_tensors(self, tensors: dict[str, Tensor] | None) -> dict[str, Tensor]:
        """Broadcast of names, shapes and types, then of each tensor."""
        layout = self.broadcast(
            [(n, tuple(t.shape), str(t.dtype)) for n, t in tensors.items()] if tensors else []
        )
        result = {}
        for name, shape, dtype in layout:
            kind = getattr(torch, dtype.removeprefix("torch."))
            if tensors is None:
                tensor = torch.empty(shape, dtype=kind, device=self._device)
            else:
                tensor = tensors[name].to(self._device).contiguous()
            dist.broadcast(tensor, src=0)
            result[name] = tensor.cpu()
        return result
