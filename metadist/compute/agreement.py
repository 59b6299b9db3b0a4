"""Seeing that what must be the same is the same: on every worker, and made a second time.

A part that draws from torch's own generator, or any other but its key's, gives other numbers in
each process. Each worker would then go on from parameters of its own, and no run could be
repeated.
"""

from __future__ import annotations

from collections.abc import Collection

import torch

from metadist.compute.collectives import Group
from metadist.compute.digest import params_sha256
from metadist.errors import NumericsError
from metadist.recipe.schema import Recipe
from metadist.tasks import Params

CURE = (
    "a part draws random numbers that do not come from its key (a generator of torch's, NumPy's or "
    "Python's own, dropout, a module's default initialisation): draw them from the key, with "
    "key.module(...) for a module's initialisation; see 'Randomness' in docs/add-an-algorithm.md"
)


def check_workers(tensors: Params, group: Group, when: str) -> None:
    """See that all workers have the same tensors, bit for bit.

    Raises:
        NumericsError: they have not; on every worker, naming the workers and tensors.
    """
    mine = _digests(tensors)
    first = group.broadcast(mine)
    names = sorted(first)
    differs = torch.zeros(group.size, len(names) + 1, dtype=torch.int64)
    differs[group.rank] = torch.tensor([*(mine.get(n) != first[n] for n in names), mine != first])
    group.sum_(differs)
    if not bool(differs.any()):
        return
    ranks = differs[:, -1].nonzero().flatten().tolist()
    other = [n for n, found in zip(names, differs[:, :-1].any(0).tolist(), strict=True) if found]
    raise NumericsError(
        f"{when}: workers {ranks} of {group.size} have other numbers than worker 0: "
        f"{_listed(other)}; {CURE}"
    )


def check_repeated(one: Params, other: Params, what: str) -> None:
    """See that what was computed twice is the same, bit for bit.

    Raises:
        NumericsError: it is not; the tensors are named.
    """
    there, here = _digests(one), _digests(other)
    differing = sorted(n for n in {*there, *here} if there.get(n) != here.get(n))
    if differing:
        raise NumericsError(
            f"{what}: other numbers when computed again: {_listed(differing)}; {CURE}"
        )


def named(recipe: Recipe) -> str:
    """The parts of a recipe that may draw random numbers, for a message."""
    return f"{recipe.algorithm.name} on {recipe.model.name}"


def _digests(tensors: Params) -> dict[str, str]:
    return {name: params_sha256({name: tensor}) for name, tensor in tensors.items()}


def _listed(names: Collection[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join([*names][:3]) or 'their names'}{more}"
