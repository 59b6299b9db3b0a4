"""Loading what was built: signatures said once, buffers checked before they go over."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metadist.errors import ResourceError
from metadist.kernels import build

_POINTER, _INT = ctypes.c_void_p, ctypes.c_int
SUFFIXES = {torch.float32: "f32", torch.float64: "f64"}


class Shape(ctypes.Structure):
    """``metadist_shape`` of ``source/shape.h``, which says what each number is."""

    _fields_ = (
        *(
            (name, ctypes.c_int32)
            for name in (
                "kind",
                "examples",
                "channels",
                "height",
                "width",
                "depth",
                "units",
                "stride",
                "pool",
                "flatten",
                "activation",
                "outputs",
                "objective",
                "keep",
                "lowest",
            )
        ),
        ("epsilon", ctypes.c_double),
        ("scale", ctypes.c_double),
    )


class Block(ctypes.Structure):
    """``metadist_block`` of ``source/operations.h``."""

    _fields_ = (
        *(
            (name, ctypes.c_int32)
            for name in (
                "examples",
                "height",
                "width",
                "channels",
                "filters",
                "stride",
                "bordered",
                "pool",
            )
        ),
        ("epsilon", ctypes.c_double),
    )


_SHAPE, _BLOCK = ctypes.POINTER(Shape), ctypes.POINTER(Block)
#: What each function takes, and returns where it returns something.
SIGNATURES: dict[str, tuple[Sequence[Any], Any]] = {
    "lanes": ([], _INT),
    "sizes": ([_SHAPE, ctypes.POINTER(ctypes.c_int64)], None),
    "forward": ([_SHAPE, *[_POINTER] * 5], None),
    "backward": ([_SHAPE, *[_POINTER] * 3, ctypes.c_double, *[_POINTER] * 2], None),
    "loss": ([_SHAPE, *[_POINTER] * 9], _INT),
    "tangent": ([_SHAPE, _POINTER, _POINTER, ctypes.c_double, *[_POINTER] * 3], None),
    "border": ([_BLOCK, *[_POINTER] * 2], None),
    "convolve": ([_BLOCK, *[_POINTER] * 5], None),
    "transpose": ([_INT] * 3 + [_POINTER] * 2, None),
    "convolve_back": ([_BLOCK, *[_POINTER] * 5], None),
    "convolution_gradient": ([_BLOCK, *[_POINTER] * 5], None),
    "norm": ([_BLOCK, *[_POINTER] * 6], None),
    "norm_backward": ([_BLOCK, *[_POINTER] * 8], None),
    "norm_tangent": ([_BLOCK, *[_POINTER] * 8], None),
    "norm_tangent_backward": ([_BLOCK, *[_POINTER] * 12], None),
    "elementary": ([ctypes.c_int64, *[_POINTER] * 4], None),
}


@dataclass(frozen=True)
class Library:
    """One build.

    Attributes:
        path: of the shared object.
        target: the kind of processor that it is for.
    """

    path: Path
    target: str

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the object: two of the same digest compute the same bits on one machine."""
        return sha256(self.path.read_bytes()).hexdigest()

    @cached_property
    def _functions(self) -> dict[tuple[str, torch.dtype], Any]:
        loaded = ctypes.CDLL(str(self.path))
        found = {}
        for name, (takes, returns) in SIGNATURES.items():
            for dtype, suffix in SUFFIXES.items():
                function = getattr(loaded, f"metadist_{name}_{suffix}")
                function.argtypes, function.restype = takes, returns
                found[name, dtype] = function
        return found

    def function(self, name: str, dtype: torch.dtype) -> Any:
        """The C function for tensors of this type."""
        return self._functions[name, dtype]

    @cache  # noqa: B019 (a process loads one or two of them)
    def lanes(self, dtype: torch.dtype) -> int:
        """Numbers in a vector: channels are stored in multiples of it."""
        return int(self.function("lanes", dtype)())


def address(tensor: Tensor, dtype: torch.dtype, count: int) -> int:
    """Where a tensor's numbers lie, for C.

    Raises:
        ValueError: they are not so many of this type, side by side in the CPU's memory.
    """
    if tensor.dtype is not dtype or tensor.numel() < count or not tensor.is_contiguous():
        raise ValueError(
            f"kernels: a buffer of at least {count} numbers of {dtype}, side by side, is needed; "
            f"got {tuple(tensor.shape)} of {tensor.dtype} with strides {tensor.stride()}"
        )
    if not tensor.is_cpu:
        raise ValueError(f"kernels: memory of the CPU is needed, got {tensor.device}")
    return tensor.data_ptr()


def addresses(pointers: Sequence[int | None]) -> ctypes.Array[ctypes.c_void_p]:
    """An array of pointers for C."""
    return (_POINTER * len(pointers))(*pointers)


def find(target: str = "") -> Library | None:
    """The build for this machine, or None if there is none.

    Args:
        target: the kind of processor it shall be for; empty: the best that was built.
    """
    for one in build.possible():
        if target in ("", one.name) and (path := build.built(one)) is not None:
            return Library(path, one.name)
    return None


@cache
def load() -> Library:
    """The best build for this machine, for as long as the process lives.

    Raises:
        ResourceError: there is none.
    """
    library = find()
    if library is None:
        raise ResourceError(
            "engine.kernels = 'fused' needs compiled kernels, and none of this version were built "
            "for this processor; run `python -m metadist.kernels.build` (it needs a C++ compiler), "
            "or set engine.kernels = 'torch'"
        )
    return library


def available() -> Library | None:
    """What :func:`load` gives, or None."""
    with suppress(ResourceError):
        return load()
    return None
