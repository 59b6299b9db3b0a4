"""Networks of one's own."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from metadist.backbones._from_module import ModulePart


def from_module(
    factory: Callable[..., nn.Module], *, head: str = "", constants: tuple[str, ...] = ()
) -> ModulePart:
    """A network of torch's modules as a backbone, for a plug-in file to export.

        PART = "backbone"
        Options, build = metadist.from_module(make)

    The module is used as a pure function: parameters come with each pass, batch normalisation takes
    its statistics as ``model.norm`` says (its ``eps`` and affine parameters are kept, ``momentum``
    is not used), and fresh parameters are drawn by the module's own initialisers from the run's
    seed alone.

    Args:
        factory: ``make(inputs, outputs, **options)`` or a class of modules; ``inputs`` is the shape
            of one example, as (3, 84, 84), and ``outputs`` the number of logits or values. The
            arguments after these two, each with a default, are the options of ``[model]`` in a
            recipe: a bool, int, float, str or a Literal of them. The module takes examples
            [n, *inputs] and returns [n, outputs].
        head: name of the last linear layer; the one that is called last if not given. What enters
            it, [n, D], are the features.
        constants: names of buffers that no pass changes. Other buffers than those of batch
            normalisation are refused.

    Returns:
        Options, build.

    Raises:
        RecipeError: the factory does not take these arguments; and of ``build``, before anything
            starts, a module that is no pure function (dropout, hooks, state), with the cure.
    """
    from metadist.backbones import _from_module

    return _from_module.from_module(factory, head=head, constants=constants)


def of_factory(factory: Callable[..., Any]) -> tuple[str, str]:
    """Where a factory of modules stands, as ``plugins`` has it, and what a recipe calls it.

    Raises:
        PluginError: it is in no file, or not at the file's top level.
    """
    from metadist.errors import PluginError

    module = sys.modules.get(getattr(factory, "__module__", None) or "")
    name = getattr(factory, "__qualname__", "")
    if module is None or getattr(module, name, None) is not factory:
        raise PluginError(
            f"backbone={name or factory!r}: a function or class at the top level of a file is "
            "needed, where workers and a run that goes on find it again; write def make(inputs, "
            "outputs): there"
        )
    path = Path(inspect.getsourcefile(factory) or "")
    if not path.is_file():
        raise PluginError(
            f"backbone={name}: it stands in no file ({path}), and workers and a run that goes on "
            "must read it again; write it to a file, as my_net.py, and import it from there"
        )
    if getattr(module, "PART", None) != "backbone":
        place = module.__name__ if "." in module.__name__ else str(path.resolve())
        return f"{place}:{name}", name
    if getattr(module.build, "factory", None) is not factory:
        raise PluginError(
            f"backbone={name}: {path} is a backbone of another factory; give it by plugins="
        )
    return str(path.resolve()), path.stem
