"""Whether code is pure: the same bits twice, nothing drawn, nothing kept, nothing changed."""

from __future__ import annotations

import contextlib
import functools
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from metadist.contracts.finding import Finding, found

T = TypeVar("T")

PURE = (
    "draw from the key or noise that is given (Learner.noise, Key.normal), keep nothing, and "
    "change nothing in place"
)


@dataclass
class Watch:
    """What was seen while a block ran; each is a phrase that says what was done."""

    seen: list[str] = field(default_factory=list)


@contextlib.contextmanager
def watched(given: object, part: object = None) -> Iterator[Watch]:
    """Look at global generators, at what is given and at the part itself before and after.

    Args:
        given: arguments of what is called.
        part: whose attributes must stay.
    """
    watch = Watch()
    generators, before, own = _generators(), snapshot(given), snapshot(part)
    yield watch
    for name, state in _generators().items():
        if not same(state, generators[name]):
            watch.seen.append(f"numbers drawn from the global generator of {name}")
    if not same(snapshot(given), before):
        watch.seen.append("what was given to it changed in place")
    if not same(snapshot(part), own):
        watch.seen.append(f"an attribute of {type(part).__name__} that changed")


def impure(
    what: str, call: Callable[[], Any], given: object, part: object, mend: str = PURE
) -> Iterator[Finding]:
    """Findings about a call that is to be pure.

    Args:
        what: is called, in words.
    """
    with watched(given, part) as watch:
        once, again = snapshot(call()), snapshot(call())
    if watch.seen:
        yield found(f"that {what} is a pure function", "; ".join(watch.seen), mend)
    elif not same(once, again):
        yield found(f"the same bits of {what} twice", "other ones the second time", mend)


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
    cached = {n for n in vars(value) if _is_cached(type(value), n)}
    return {n: snapshot(one, inside) for n, one in vars(value).items() if n not in cached}


def _is_cached(cls: type, name: str) -> bool:
    return isinstance(getattr(cls, name, None), functools.cached_property)


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
