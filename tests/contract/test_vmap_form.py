"""Why vmap must be outermost: the trap in the obvious form of a batched meta-gradient."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from metadist.keys import Key
from metadist.tasks import Params, TaskShape, to_tasks
from tests.contract.cases import TASKS, WAYS
from tests.contract.setting import CPU, synthetic_episodes
from tests.numerics.reference import EXACT, derivative, distance, leaves, total, whole_distance


def test_gradient_outside_vmap_is_wrong_through_fused_batch_norm():
    """The trap: losses are right, the second-order gradient is silently not.

    An adapted scale of the fused batch norm under ``grad(vmap(grad))`` meets a batching rule that
    drops a term. ``vmap(grad(grad))`` is right. Should this test fail because the first form has
    become right in PyTorch, the warning in ``metadist.backbones._norm`` can go.
    """
    key = Key.of("trap")
    theta = {
        "weight": key.fold("w").normal((4, 1, 3, 3), torch.float64),
        "scale": 1 + 0.1 * key.fold("s").normal((4,), torch.float64),
        "shift": 0.1 * key.fold("b").normal((4,), torch.float64),
        "head": key.fold("h").normal((WAYS, 4), torch.float64),
    }
    shape = TaskShape((1, 6, 6), WAYS, WAYS, classes=2 * WAYS)
    tasks = to_tasks(synthetic_episodes(shape, key, TASKS), torch.float64, CPU)

    def outputs(p: Params, x: Tensor) -> Tensor:
        h = F.conv2d(x, p["weight"], padding=1)
        h = F.batch_norm(h, None, None, p["scale"], p["shift"], training=True)
        return F.relu(h).mean((2, 3)) @ p["head"].T

    def meta_loss(p: Params, sx: Tensor, sy: Tensor, qx: Tensor, qy: Tensor) -> Tensor:
        inner = torch.func.grad(lambda q: F.cross_entropy(outputs(q, sx), sy))(p)
        adapted = {n: w - 0.4 * inner[n] for n, w in p.items()}
        return F.cross_entropy(outputs(adapted, qx), qy)

    names = ("support_x", "support_y", "query_x", "query_y")
    columns = tuple(tasks.tensors[name] for name in names)
    right: list[Params] = []
    for index in range(TASKS):
        at = leaves(theta)
        sx, sy, qx, qy = (column[index] for column in columns)
        inner = torch.autograd.grad(
            F.cross_entropy(outputs(at, sx), sy), list(at.values()), create_graph=True
        )
        adapted = {n: w - 0.4 * g for (n, w), g in zip(at.items(), inner, strict=True)}
        right.append(derivative(F.cross_entropy(outputs(adapted, qx), qy), at))

    in_dims = (None, 0, 0, 0, 0)
    inside = torch.func.vmap(torch.func.grad(meta_loss), in_dims=in_dims)(theta, *columns)
    assert distance({n: g.sum(0) for n, g in inside.items()}, total(right)) <= EXACT

    def summed(p: Params) -> Tensor:
        return torch.func.vmap(meta_loss, in_dims=in_dims)(p, *columns).sum()

    values = [meta_loss(theta, *(column[i] for column in columns)) for i in range(TASKS)]
    torch.testing.assert_close(summed(theta), torch.stack(values).sum(), rtol=EXACT, atol=0)
    assert whole_distance(torch.func.grad(summed)(theta), total(right)) > 1e-5
