"""Where a process computes."""

from __future__ import annotations

from typing import Literal, get_args

import torch

from metadist.errors import ResourceError

#: ``auto`` takes GPUs where there are any.
Device = Literal["auto", "cpu", "cuda"]


def check_device(device: str) -> None:
    """See that a device is one of :data:`Device`.

    Raises:
        ResourceError: it is not.
    """
    if device not in get_args(Device):
        raise ResourceError(
            f"--device {device}: {', '.join(get_args(Device))} are possible; which of several GPUs "
            "is taken says CUDA_VISIBLE_DEVICES, as in CUDA_VISIBLE_DEVICES=1"
        )


def local_device(device: Device) -> torch.device:
    """The device of a single process.

    Raises:
        ResourceError: ``cuda`` was asked for and there is none; see also :func:`check_device`.
    """
    check_device(device)
    if device == "cuda" and not torch.cuda.is_available():
        raise ResourceError(
            "--device cuda: this machine has no GPU that torch can use; use --device cpu"
        )
    if device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", 0)
