"""A factory of modules as a backbone: what a file with a network of one's own has to export."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from pydantic import Field, ValidationError, create_model
from torch import nn

from metadist.backbones import Backbone
from metadist.backbones._module import ModuleNetwork
from metadist.discovery import Options, explain
from metadist.errors import RecipeError
from metadist.overrides import Scalar
from metadist.tasks import TaskShape

Factory = Callable[..., nn.Module]


@dataclass(frozen=True)
class ModuleBuilder:
    """``build`` of a backbone around modules; see :func:`from_module`."""

    factory: Factory
    head: str = ""
    constants: tuple[str, ...] = ()

    def __call__(self, options: Options, shape: TaskShape) -> Backbone:
        """The network for tasks of this shape.

        Raises:
            RecipeError: the module cannot be used; the message says how to mend it.
        """
        make = partial(self.factory, shape.inputs, shape.outputs, **options.model_dump())
        name = f"network {_name(self.factory)}"
        return ModuleNetwork(name, make, shape, head=self.head, constants=self.constants)


class ModulePart(NamedTuple):
    """What a module of a backbone exports."""

    Options: type[Options]
    build: ModuleBuilder


def from_module(factory: Factory, *, head: str = "", constants: tuple[str, ...] = ()) -> ModulePart:
    """A factory of modules as a backbone; see :func:`metadist.from_module`."""
    if not callable(factory):
        raise RecipeError(f"from_module needs a function that makes a module, got {factory!r}")
    if isinstance(constants, str):
        raise RecipeError(f"constants must be a tuple of names, got {constants!r}; add a comma")
    return ModulePart(_options(factory), ModuleBuilder(factory, head, tuple(constants)))


def _name(factory: Factory) -> str:
    return str(getattr(factory, "__name__", type(factory).__name__))


def _options(factory: Factory) -> type[Options]:
    fields: dict[str, Any] = dict(_declared(factory))
    options = create_model("Options", __base__=Options, __doc__=factory.__doc__, **fields)
    try:
        options()
    except ValidationError as error:
        raise RecipeError(f"{_name(factory)}: {explain(error, 'default')}") from None
    return options


def _declared(factory: Factory) -> Iterator[tuple[str, tuple[Any, Any]]]:
    for parameter, hint in _parameters(factory):
        name, default = parameter.name, parameter.default
        where = f"{_name(factory)}: option {name!r}"
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            raise RecipeError(f"{where} must be an argument of its own; write them out")
        if default is parameter.empty:
            raise RecipeError(f"{where} needs a default, as in {name}=64")
        if name in ("name", "norm") or name.startswith("_") or hasattr(Options, name):
            raise RecipeError(f"{where} is a name that is taken; rename it")
        if not _is_scalar(hint):
            raise RecipeError(
                f"{where} must be one value, a bool, int, float, str or a Literal of them, got "
                f"{hint}; a recipe holds nothing else"
            )
        yield name, (hint, Field(default, validate_default=True))


def _parameters(factory: Factory) -> Iterator[tuple[inspect.Parameter, Any]]:
    """Those of a factory after inputs and outputs, with their types.

    Raises:
        RecipeError: it does not take the two, or has types that cannot be read.
    """
    given = list(inspect.signature(factory).parameters.values())
    if len(given) < 2 or any(p.kind not in _BY_PLACE for p in given[:2]):
        raise RecipeError(
            f"{_name(factory)} is called with (inputs, outputs, **options): the shape of an "
            "example, as (3, 84, 84), and the number of outputs; it takes "
            f"({', '.join(map(str, given))})"
        )
    try:
        called = factory.__init__ if inspect.isclass(factory) else factory
        hints = get_type_hints(called, include_extras=True)
    except (NameError, TypeError) as error:
        raise RecipeError(f"{_name(factory)}: its types cannot be read: {error}") from error
    for parameter in given[2:]:
        yield parameter, hints.get(parameter.name, type(parameter.default))


_BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _is_scalar(hint: Any) -> bool:
    if get_origin(hint) is Annotated:
        return _is_scalar(get_args(hint)[0])
    if get_origin(hint) is Literal:
        return all(isinstance(value, Scalar) for value in get_args(hint))
    return hint in get_args(Scalar)
