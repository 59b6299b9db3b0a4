"""A backbone whose forward pass is that of a module of torch's.

The module keeps no numbers: parameters come with each pass (``torch.func.functional_call``), batch
normalisation is that of every other backbone, and fresh parameters are what the module's own
initialisers draw under a key.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.lazy import LazyModuleMixin

from metadist.backbones import Backbone, Layer, LayerHook, Norm, Output
from metadist.backbones._drop_block import DropBlock
from metadist.backbones._examination import Examination, Found
from metadist.backbones._freshness import check_drawn, check_repeated, only_torch_draws
from metadist.backbones._instrument import HeadReached, Instrument, Pass
from metadist.backbones._refusals import refusals
from metadist.errors import MetadistError, RecipeError
from metadist.keys import Key
from metadist.tasks import Params, TaskShape


@dataclass(frozen=True)
class ModuleLayer(Layer):
    """A linear map of a module, whose parameters may have the names of another's: tied ones."""

    names: tuple[str, ...] = ()

    @property
    def parameters(self) -> tuple[str, ...]:
        return self.names


class ModuleNetwork(Backbone):
    """The network for tasks of one shape.

    Args:
        name: for messages.
        make: makes the module, with fresh parameters; each time the same under one key.
        shape: of the tasks.
        head: name of the head; "": the linear layer that is called last.
        constants: names of buffers that never change.

    Raises:
        RecipeError: the module is no pure function of parameters and examples, or does not fit the
            tasks; the message says how to mend it.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[], nn.Module],
        shape: TaskShape,
        *,
        head: str = "",
        constants: Collection[str] = (),
    ) -> None:
        self._name, self._make, self._shape = name, make, shape
        key = Key.of("metadist", "module")
        with only_torch_draws(name):
            made = (self._made(one, constants) for one in (key, key, key.fold("other")))
            module, again, other = made
            check_repeated(name, module, again)
            check_drawn(name, module, other)
        self._instrument = Instrument(module, head or None)
        self._found: Found = Examination(name, self._instrument, shape).found(other)
        every = module.named_parameters(remove_duplicate=False)
        first = {id(p): one for one, p in module.named_parameters()}
        #: Each name of a parameter, and that by which it is known: tied ones have several.
        self._names = {one: first[id(p)] for one, p in every}
        self._constants = {one: b.detach() for one, b in module.named_buffers()}
        _strip(module)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Linear and convolutional modules in the order of their first calls, then the head."""
        return tuple(self._layer(name) for name in self._found.layers)

    def _layer(self, name: str) -> Layer:
        own = [self._names.get(_join(name, p), "") for p in ("weight", "bias")]
        names = tuple(filter(None, own))
        return ModuleLayer(name, self._found.layers[name], bool(own[1]), names)

    @property
    def norm_layers(self) -> dict[str, int]:
        """Each call of a batch normalisation: the module's name, with ``@2`` at its second."""
        return dict(self._found.norm_layers)

    @property
    def norm_parameters(self) -> frozenset[str]:
        """Scale and shift of every batch normalisation."""
        modules = {place.partition("@")[0] for place in self._found.norm_layers}
        both = (_join(module, p) for module in modules for p in ("weight", "bias"))
        return frozenset(self._names[one] for one in both if one in self._names)

    @property
    def drops(self) -> bool:
        parts = self._instrument.module.modules()
        return any(isinstance(part, DropBlock) and part.rate > 0 for part in parts)

    def init(self, key: Key) -> Params:
        """What the module's initialisers draw under this key, float32 on the CPU."""
        module = self._made(key, self._constants)
        return {
            name: p.detach().to("cpu", torch.float32).contiguous()
            for name, p in module.named_parameters()
        }

    def forward(
        self,
        params: Params,
        x: Tensor,
        norm: Norm,
        *,
        head: bool = True,
        layer_hook: LayerHook | None = None,
    ) -> Output:
        """The module's pass over examples x [n, ...].

        Raises:
            RecipeError: the module fails, or torch cannot take it under ``vmap``.
        """
        given = {n: params[first] for n, first in self._names.items() if first in params}
        run = Pass(norm, layer_hook, stop=not head)
        value = self._called({**given, **_like(self._constants, x)}, x, run)
        assert run.features is not None
        activations = {n: a for n, a in run.activations.items() if len(a) == len(x)}
        return Output(value, run.features, run.statistics, activations)

    def _called(self, given: Mapping[str, Tensor], x: Tensor, run: Pass) -> Tensor:
        try:
            # Of torch's kernels of attention only the plain one has a second derivative.
            with self._instrument.listening(run), sdpa_kernel(SDPBackend.MATH):
                module = self._instrument.module
                value: Tensor = functional_call(module, dict(given), (x,), tie_weights=False)
                return value
        except HeadReached:
            assert run.features is not None
            return run.features
        except Exception as error:
            ours = isinstance(error, MetadistError) and not isinstance(error, RecipeError)
            if ours or isinstance(error, torch.OutOfMemoryError):
                raise
            if isinstance(error, RuntimeError) and torch._C._functorch.is_batchedtensor(x):
                raise RecipeError(
                    f"{self._name} cannot be computed for several tasks at once: {_line(error)}; "
                    "take engine.mode = 'loop', or write it without what vmap cannot (a Python "
                    "if or .item() of a tensor, recurrent layers, in-place changes)"
                ) from error
            raise RecipeError(
                f"{self._name}: a pass over {len(x)} examples of shape {tuple(x.shape[1:])} "
                f"fails: {_line(error)}"
            ) from error

    def _made(self, key: Key, constants: Collection[str]) -> nn.Module:
        def make() -> nn.Module:
            seed = torch.initial_seed()
            module = self._make()
            if torch.initial_seed() != seed:
                raise RecipeError("it sets torch's seed, and must depend on the run's; leave it")
            if isinstance(module, nn.Module):
                _materialise(module, self._shape)
            return module

        try:
            module = key.module(make)
        except Exception as error:
            raise RecipeError(f"{self._name} cannot be made: {_line(error)}") from error
        if wrong := list(refusals(module, constants)):
            raise RecipeError(f"{self._name}: {'; '.join(wrong)}")
        return module


def _join(module: str, parameter: str) -> str:
    return f"{module}.{parameter}" if module else parameter


def _like(constants: Mapping[str, Tensor], x: Tensor) -> dict[str, Tensor]:
    """Constants where x is, and floating-point ones in its type."""
    return {
        name: c.to(x.device, x.dtype if c.is_floating_point() else c.dtype)
        for name, c in constants.items()
    }


def _materialise(module: nn.Module, shape: TaskShape) -> None:
    if any(isinstance(part, LazyModuleMixin) for part in module.modules()):
        with torch.no_grad():
            module(torch.zeros(2, *shape.inputs))


def _strip(module: nn.Module) -> None:
    """Take its numbers from a module: a pass that was not given one fails."""
    empty = {id(p): nn.Parameter(torch.empty_like(p, device="meta")) for p in module.parameters()}
    for part in module.modules():
        for name, p in list(part._parameters.items()):
            if p is not None:
                setattr(part, name, empty[id(p)])


def _line(error: BaseException) -> str:
    said = " ".join(str(error).split())
    return said if isinstance(error, RecipeError) else f"{type(error).__name__}: {said}"
