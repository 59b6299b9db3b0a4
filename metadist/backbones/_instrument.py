"""A module of torch's whose passes are told how to normalise, and tell what happens inside."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor, nn

from metadist.backbones import LayerHook
from metadist.backbones._drop_block import DropBlock
from metadist.backbones._kinds import BatchNorm, Convolution
from metadist.backbones._norm import Norm, Statistics, normalise
from metadist.errors import RecipeError


class HeadReached(BaseException):
    """A pass that is to end before the head has come there; no module's ``except`` is meant."""


@dataclass
class Pass:
    """One forward pass: how it goes, and what it leaves behind.

    Attributes:
        stop: end it before the head.
        features: what enters the head.
        calls: names of linear maps, in the order of their calls.
        normalised: calls of each batch normalisation.
        dropped: calls of layers that drop.
    """

    norm: Norm
    layer_hook: LayerHook | None = None
    stop: bool = False
    statistics: Statistics = field(default_factory=dict)
    activations: dict[str, Tensor] = field(default_factory=dict)
    features: Tensor | None = None
    calls: list[str] = field(default_factory=list)
    normalised: Counter[str] = field(default_factory=Counter)
    dropped: int = 0


class Lock:
    """A reentrant lock that a copy, or another process, has one of its own of."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *raised: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type[Lock], tuple[()]]:
        return Lock, ()


class Instrument:
    """Changes a module for good: batch normalisation has no buffers, linear maps are listened to.

    Args:
        head: name of the head, "" if that is the module; None is the linear layer that is called
            last, which nobody knows yet.
    """

    def __init__(self, module: nn.Module, head: str | None = None) -> None:
        self.module = module
        self.head = head
        self._now: Pass | None = None
        self._one = Lock()
        for name, part in module.named_modules():
            if isinstance(part, BatchNorm):
                part._buffers = dict.fromkeys(part._buffers)
                # On the object: whatever else refers to it goes on doing so.
                part.forward = partial(self._normalise, name, part)  # type: ignore[method-assign]
            elif isinstance(part, DropBlock):
                part.forward = partial(self._drop, part)  # type: ignore[method-assign]
            elif isinstance(part, nn.Linear | Convolution):
                part.register_forward_pre_hook(partial(self._enter, name), with_kwargs=True)
                part.register_forward_hook(partial(self._leave, name))

    @contextlib.contextmanager
    def listening(self, run: Pass) -> Iterator[None]:
        """Let calls of the module inside the block be this pass; other threads wait."""
        with self._one:
            self._now = run
            try:
                yield
            finally:
                self._now = None

    @property
    def _pass(self) -> Pass:
        assert self._now is not None, "the module was called outside a pass"
        return self._now

    def _normalise(self, name: str, layer: BatchNorm, input: Tensor) -> Tensor:
        run = self._pass
        run.normalised[name] += 1
        # A layer that is called in several places normalises each by statistics of its own.
        place = name if run.normalised[name] == 1 else f"{name}@{run.normalised[name]}"
        if run.norm.kind == "given" and place not in run.norm.statistics:
            raise RecipeError(
                f"batch normalisation {place!r} has no statistics: it is called in some passes "
                "only; take model.norm = 'transductive', or GroupNorm"
            )
        return normalise(
            input, place, layer.weight, layer.bias, run.norm, run.statistics, epsilon=layer.eps
        )

    def _drop(self, layer: DropBlock, input: Tensor) -> Tensor:
        run = self._pass
        run.dropped += 1
        drops = run.norm.drops
        return input if drops is None else layer.dropped(input, drops.at(run.dropped))

    def _enter(
        self, name: str, layer: nn.Module, args: tuple[Any, ...], named: dict[str, Any]
    ) -> None:
        if name == self.head:
            run = self._pass
            run.features = args[0] if args else named["input"]
            if run.stop:
                raise HeadReached

    def _leave(self, name: str, layer: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        run = self._pass
        run.calls.append(name)
        if run.layer_hook is not None:
            output = run.layer_hook(name, output)
        run.activations[name] = output
        return output
