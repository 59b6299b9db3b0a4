"""Whether the numbers that a factory of modules draws come from torch's generator, and it alone."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from metadist.errors import RecipeError

_CURE = "draw them from torch's generator (torch.rand, nn.init)"


def check_repeated(name: str, one: nn.Module, other: nn.Module) -> None:
    """Two that were made under the same key have the same numbers, each its own.

    Raises:
        RecipeError: not so.
    """
    if {id(p) for p in one.parameters()} & {id(p) for p in other.parameters()}:
        raise RecipeError(f"{name}: it gives the same parameters each time; make them anew")
    a, b = one.state_dict(), other.state_dict()
    if differing := [n for n in {**a, **b} if not _same(a.get(n), b.get(n))]:
        raise RecipeError(
            f"{name}: {', '.join(differing[:3])} are other numbers when it is made again: they do "
            f"not come from torch's generator; {_CURE}, not from NumPy's, Python's or the clock, "
            "and set what is torch.empty"
        )


def check_drawn(name: str, one: nn.Module, other: nn.Module) -> None:
    """Two that were made under different keys do not have the same numbers, but for constants.

    Raises:
        RecipeError: they have.
    """
    a, b = dict(one.named_parameters()), dict(other.named_parameters())
    drawn = [n for n, p in a.items() if p.numel() and p.min() != p.max()]
    if drawn and all(_same(a[n], b.get(n)) for n in drawn):
        raise RecipeError(
            f"{name}: {', '.join(drawn[:3])} are the same numbers whatever the run's seed: they "
            f"come from a generator with a seed of its own; {_CURE} as it stands"
        )


@contextlib.contextmanager
def only_torch_draws(name: str) -> Iterator[None]:
    """Refuse a block that has drawn from NumPy's or Python's generator, or has set its seed.

    Raises:
        RecipeError: it has. Both are afterwards as they were before.
    """
    # The generators are the process's: networks are looked at one after the other.
    with _ALONE:
        numpys, pythons = np.random.get_state(), random.getstate()
        # A state that no factory leaves behind: the second attempt is told from the first.
        np.random.seed(_UNUSUAL)
        random.seed(_UNUSUAL)
        before = _states()
        try:
            yield
            moved = [kind for kind, state in _states().items() if state != before[kind]]
        finally:
            np.random.set_state(numpys)
            random.setstate(pythons)
    if moved:
        raise RecipeError(
            f"{name}: it draws from the generator of {' and '.join(moved)}, or sets its seed; "
            f"numbers must depend on the run's seed: {_CURE}"
        )


_UNUSUAL = 2914060867
_ALONE = threading.RLock()


def _states() -> dict[str, object]:
    _, words, *rest = np.random.get_state()
    return {"NumPy": (np.asarray(words).tobytes(), *rest), "Python": random.getstate()}


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    return a is not None and b is not None and a.shape == b.shape and torch.equal(a, b)
