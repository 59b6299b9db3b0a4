"""Where a process computes, and how it keeps its memory."""

from __future__ import annotations

import ctypes
import sys
from typing import Literal, get_args

import torch

from metadist.errors import ResourceError

#: ``auto`` takes GPUs where there are any.
Device = Literal["auto", "cpu", "cuda"]
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_TOP_PAD = 64 * 1024 * 1024
_NEVER = 2**31 - 1


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


def keep_freed_memory() -> bool:
    """Keep freed memory in the process instead of handing it back to the kernel; True if it is.

    glibc returns large freed buffers at once, and the next step pays for them again with page
    faults: up to a third of a step on 84x84 images. Elsewhere nothing happens.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER), (_M_TOP_PAD, _TOP_PAD))
    return all(bool(mallopt(option, value)) for option, value in settings)
