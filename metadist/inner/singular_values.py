"""How far learned matrices have gone from the identity, whose singular values are all 1."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from metadist.learner import LearnedQuantities


def _of(matrix: Tensor) -> Tensor:
    if not bool(torch.isfinite(matrix).all()):
        return matrix.new_full((1,), torch.nan)  # LAPACK would raise
    return matrix.abs() if matrix.dim() == 1 else torch.linalg.svdvals(matrix)


def singular_values(what: str, matrices: Mapping[str, Tensor]) -> LearnedQuantities:
    """Smallest and largest singular value of each matrix; a vector [n] stands for its diagonal."""
    values = {name: _of(m.double()) for name, m in matrices.items()}
    return {
        f"{what}_smallest": {name: [float(v.min())] for name, v in values.items()},
        f"{what}_largest": {name: [float(v.max())] for name, v in values.items()},
    }
