"""How unequal numbers are, as economists measure it: 0 if they are equal, else positive.

With r_i = l_i / mean(l) and B numbers:

    theil               mean(r ln r), at most ln B
    generalised_entropy mean(r^a - 1) / (a (a - 1));  a = 1: theil;  a = 0: -mean(ln r)
    atkinson            1 - mean(r^(1 - e))^(1 / (1 - e));  e = 1: 1 - exp(mean(ln r))
    gini                mean_ij |r_i - r_j| / 2, below 1
    variance_of_logs    variance of ln r

Jamal & Qi, "Task Agnostic Meta-Learning for Few-Shot Learning", CVPR 2019, section 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Measure = Literal["theil", "generalised_entropy", "atkinson", "gini", "variance_of_logs"]

#: Shares below this count as this: the logarithm of 0 has no slope.
FLOOR = 1e-6


@dataclass(frozen=True)
class Inequality:
    """A measure with its parameter.

    Attributes:
        alpha: a of the generalised entropy.
        epsilon: e of Atkinson's measure, above 0: aversion to inequality.
    """

    measure: Measure
    alpha: float = 2.0
    epsilon: float = 0.5

    def __call__(self, values: Tensor, counted: Tensor) -> Tensor:
        """Inequality, a scalar, of those of the positive ``values`` [B] that are ``counted``."""
        share = counted.to(values.dtype) / counted.sum()
        values = torch.where(counted, values, 0.0)
        mean = (share * values).sum().clamp_min(torch.finfo(values.dtype).tiny)
        r = torch.where(counted, values / mean, 1.0).clamp_min(FLOOR)
        match self.measure:
            case "theil":
                return _generalised_entropy(r, share, 1.0)
            case "generalised_entropy":
                return _generalised_entropy(r, share, self.alpha)
            case "atkinson":
                return _atkinson(r, share, self.epsilon)
            case "gini":
                return (share * (share * (r[:, None] - r).abs()).sum(1)).sum() / 2
            case "variance_of_logs":
                logs = r.log()
                return (share * (logs - (share * logs).sum()) ** 2).sum()


def _generalised_entropy(r: Tensor, share: Tensor, alpha: float) -> Tensor:
    if alpha == 1.0:
        return (share * r * r.log()).sum()
    if alpha == 0.0:
        return -(share * r.log()).sum()
    return (share * (r**alpha - 1.0)).sum() / (alpha * (alpha - 1.0))


def _atkinson(r: Tensor, share: Tensor, epsilon: float) -> Tensor:
    if epsilon == 1.0:
        return 1.0 - (share * r.log()).sum().exp()
    return 1.0 - (share * r ** (1.0 - epsilon)).sum() ** (1.0 / (1.0 - epsilon))
