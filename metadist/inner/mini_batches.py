"""Mini-batches of a task's examples from random numbers that know nothing of the task.

Random numbers are drawn before the tasks are seen, so how many examples there are is not known when
they are drawn.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def shuffled(uniform: Tensor, count: int) -> Tensor:
    """Indices int64 [k] of ``count`` examples, in an order that is random anew after each epoch.

    Fisher & Yates' shuffle: within an epoch no example comes twice, and all orders have the same
    probability. Nothing depends on the device or on the tasks beside it.

    Args:
        uniform: k > 0 uniform numbers in (0, 1), float64.
        count: examples, at least 1.
    """
    wanted = len(uniform)
    epochs = -(-wanted // count)
    rows = F.pad(uniform, (0, epochs * count - wanted)).reshape(epochs, count)
    order = torch.arange(count, device=uniform.device).expand(epochs, count)
    chosen = []
    for position in range(min(count, wanted)):
        here = slice(position, position + 1)
        # The product may round up to what is one too many.
        further = (rows[:, here] * (count - position)).long().clamp_max(count - position - 1)
        chosen.append(order.gather(1, position + further))
        order = order.scatter(1, position + further, order[:, here])
    return torch.cat(chosen, 1).reshape(-1)[:wanted]
