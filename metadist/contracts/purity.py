"""Whether code is pure: the same bits twice, nothing drawn, nothing kept, nothing changed."""

from __future__ import annotations

import contextlib
import functools
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metadist.contracts.finding import Finding, found
from metadist.keys import Key
from metadist.tasks import Params

PURE = (
    "draw from the key or noise that is given (Learner.noise, Key.normal), keep nothing, and "
    "change nothing in place"
)


@contextlib.contextmanager
def watched(given: object, part: object) -> Iterator[list[str]]:
    """Phrases that say what a block has done to global generators, what is given, and the part.

    Args:
        given: arguments of what is called.
        part: whose attributes must stay.
    """
    seen: list[str] = []
    generators, before, own = _generators(), snapshot(given), snapshot(part)
    yield seen
    for name, state in _generators().items():
        if not same(state, generators[name]):
            seen.append(f"numbers drawn from the global generator of {name}")
    if not same(snapshot(given), before):
        seen.append("what was given to it changed in place")
    if not same(snapshot(part), own):
        seen.append(f"an attribute of {type(part).__name__} that changed")


def impure(
    what: str, call: Callable[[], Any], given: object, part: object, mend: str = PURE
) -> Iterator[Finding]:
    """Findings about a call that is to be pure.

    Args:
        what: is called, in words.
    """
    with watched(given, part) as seen:
        once, again = snapshot(call()), snapshot(call())
    if seen:
        yield found(f"that {what} is a pure function", "; ".join(seen), mend)
    elif not same(once, again):
        yield found(f"the same bits of {what} twice", "other ones the second time", mend)


def fresh(init: Callable[[Key], Params], part: object) -> Iterator[Finding]:
    """Findings about fresh parameters: float32 on the CPU, from the key alone."""
    yield from impure("init", lambda: init(Key.of("a")), (), part)
    first, other = init(Key.of("a")), init(Key.of("b"))
    odd = [f"{n} {p.dtype}" for n, p in first.items() if p.dtype != torch.float32]
    odd += [f"{n} on {p.device}" for n, p in first.items() if p.device.type != "cpu"]
    odd += [f"{n} with a graph" for n, p in first.items() if p.requires_grad]
    if odd:
        yield found(
            "parameters float32 on the CPU without requires_grad",
            ", ".join(odd),
            "return key.normal(shape) and the like, or p.detach() of a module's; the engine "
            "chooses type and device",
        )
    if first and same(snapshot(first), snapshot(other)):
        yield found(
            "other fresh parameters for another key",
            "the same ones",
            "draw them from the key, as key.fold(name).normal(shape)",
            "warning",
        )


def _generators() -> dict[str, Any]:
    return {
        "torch": snapshot(torch.get_rng_state()),
        "NumPy": snapshot(np.random.get_state()),
        "random": snapshot(random.getstate()),
    }


def snapshot(value: Any, seen: frozenset[int] = frozenset()) -> Any:
    """A copy that later changes in place do not reach: containers, tensors and attributes."""
    if id(value) in seen:
        return None
    inside = seen | {id(value)}
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, Mapping):
        return {key: snapshot(one, inside) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [snapshot(one, inside) for one in value]
    if isinstance(value, type) or callable(value) or not hasattr(value, "__dict__"):
        return value
    # What is computed once and kept (functools.cached_property) is no state.
    kinds = {n: getattr(type(value), n, None) for n in vars(value)}
    kept = [n for n, kind in kinds.items() if not isinstance(kind, functools.cached_property)]
    return {n: snapshot(vars(value)[n], inside) for n in kept}


def same(one: Any, other: Any) -> bool:
    """Whether two snapshots have the same bits."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.dtype == other.dtype and equal(one, other)
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and _all(one, other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(v, other[n]) for n, v in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one is other or bool(one == other) or bool(one != one and other != other)


def equal(one: Tensor, other: Tensor) -> bool:
    """Whether tensors have the same numbers, NaN where the other has NaN."""
    return one.shape == other.shape and _all(one, other)


def _all(one: Any, other: Any) -> bool:
    return bool(((one == other) | ((one != one) & (other != other))).all())
