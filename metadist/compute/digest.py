"""A digest of parameters that two machines can compare."""

from __future__ import annotations

import hashlib
import sys

from metadist.tasks import Params


def params_sha256(params: Params) -> str:
    """SHA-256 over names (sorted), types, shapes and little-endian bytes."""
    digest = hashlib.sha256()
    for name in sorted(params):
        tensor = params[name].detach().cpu().contiguous()
        array = tensor.numpy()
        if sys.byteorder == "big":
            array = array.byteswap()
        header = f"{name}\0{str(tensor.dtype).removeprefix('torch.')}\0{tuple(tensor.shape)}\0"
        digest.update(header.encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
