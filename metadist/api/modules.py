"""Networks of one's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

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
