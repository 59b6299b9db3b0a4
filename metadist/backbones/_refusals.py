"""What a module must not hold if it is to be a pure function of parameters and examples."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from metadist.backbones._kinds import BatchNorm, Dropout, InstanceNorm

#: Parameters of inner optimizers stand under this name.
RESERVED = "rule"


def refusals(module: object, constants: Collection[str]) -> Iterator[str]:
    """What is wrong with a module, and how to mend it, each in a sentence.

    Args:
        constants: names of buffers that never change.
    """
    if not isinstance(module, nn.Module) or isinstance(module, torch.jit.ScriptModule):
        yield f"a plain nn.Module is needed, got {type(module).__name__}; return one"
        return
    if not any(True for _ in module.parameters()):
        yield "it has no parameters; there is nothing to learn"
    known = {id(thing) for thing in (*module.modules(), *module.parameters(), *module.buffers())}
    for name, part in module.named_modules():
        for wrong in _of_part(part, known):
            yield f"{name or 'the module'} ({type(part).__name__}) {wrong}"
    yield from _of_parameters(module)
    yield from _of_buffers(module, constants)


def _of_part(part: nn.Module, known: Collection[int]) -> Iterator[str]:
    """What is wrong with one module of the tree, its children left aside."""
    if isinstance(part, nn.DataParallel) or hasattr(part, "_orig_mod"):
        yield "is a module around another, to compute it elsewhere; return the one inside"
    if parametrize.is_parametrized(part):
        yield "has a weight that is computed from others; register the weight itself as parameter"
    hooks = (part._forward_hooks, part._forward_pre_hooks, part._backward_hooks)
    if any(hooks) or part._backward_pre_hooks:
        yield "has hooks, which may keep a state; move what they do into its forward"
    if rate := _drops(part):
        yield (
            f"draws random numbers in its forward ({rate}), which a pure function cannot; "
            "use p=0 or nn.Identity"
        )
    if isinstance(part, BatchNorm) and type(part).forward not in _FORWARDS:
        yield "normalises in its own way; take torch's class, or GroupNorm"
    held = [(name, value) for name, value in vars(part).items() if name not in _PLAIN]
    for cls in type(part).__mro__:
        if not cls.__module__.startswith("torch."):
            held += [(name, f) for name, f in vars(cls).items() if inspect.isfunction(f)]
    for name, value in held:
        yield from _unregistered(name, value, known)


_FORWARDS = (nn.BatchNorm2d.forward, nn.SyncBatchNorm.forward)
#: Attributes that each module has.
_PLAIN = frozenset(vars(nn.Module()))


def _drops(part: nn.Module) -> str:
    """The option by which a module draws random numbers in a pass; nothing if it does not."""
    if isinstance(part, Dropout):
        return f"p={part.p}" if part.p else ""
    if isinstance(part, nn.MultiheadAttention | nn.RNNBase):
        return f"dropout={part.dropout}" if part.dropout else ""
    return "a random slope" if isinstance(part, nn.RReLU) else ""


def _unregistered(name: str, value: Any, known: Collection[int]) -> Iterator[str]:
    """Tensors and modules in an attribute or method that are none of the module's own."""
    for one in _inside(value, set()):
        if id(one) in known:
            continue
        if isinstance(one, Tensor):
            yield (
                f"keeps a tensor in {name!r} that is neither parameter nor buffer; make it an "
                "nn.Parameter, or a buffer that is named in constants=(...)"
            )
        elif isinstance(one, nn.Module):
            yield f"keeps a module in {name!r} that is not its own; use nn.ModuleList or ModuleDict"


def _inside(value: Any, seen: set[int]) -> Iterator[Tensor | nn.Module]:
    """Tensors and modules in a value, however deep in containers and functions."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Tensor | nn.Module):
        yield value
        return
    for one in _parts(value):
        yield from _inside(one, seen)


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return value.values()
    if isinstance(value, _CONTAINERS):
        return value
    if isinstance(value, functools.partial):
        return value.func, value.args, value.keywords
    if inspect.ismethod(value):
        return value.__self__, value.__func__
    if inspect.isfunction(value):
        # An empty cell: a name that nothing has been given to yet.
        with contextlib.suppress(ValueError):
            met = inspect.getclosurevars(value)
            # Not further into functions that it calls: those of libraries call on and on.
            named = [v for v in met.globals.values() if isinstance(v, Tensor | nn.Module)]
            default = (value.__defaults__ or (), value.__kwdefaults__ or {})
            return filter(_has_numbers, (*met.nonlocals.values(), *named, *default))
    return ()


_CONTAINERS = (list, tuple, set, frozenset, deque)


def _has_numbers(value: Any) -> bool:
    """Not a constant of a function's, such as nn.ReLU() or a grid: whatever else may learn."""
    if isinstance(value, nn.Module):
        return bool(value.state_dict())
    return not isinstance(value, Tensor) or value.requires_grad


def _of_parameters(module: nn.Module) -> Iterator[str]:
    for name, p in module.named_parameters():
        if p.dtype != torch.float32:
            yield (
                f"parameter {name!r} is {p.dtype}; torch.float32 is needed, whatever the run "
                "computes in (engine.dtype)"
            )
        elif not p.requires_grad:
            yield (
                f"parameter {name!r} is frozen (requires_grad=False), and all parameters are "
                "learned; make it a buffer that is named in constants=(...)"
            )
        if name.partition(".")[0] == RESERVED:
            yield f"parameter {name!r} begins with a name that is taken; rename {RESERVED!r}"


def _of_buffers(module: nn.Module, constants: Collection[str]) -> Iterator[str]:
    there = set()
    for prefix, part in module.named_modules():
        for name, buffer in part.named_buffers(prefix, recurse=False):
            there.add(name)
            if isinstance(part, BatchNorm) or buffer is None or name in constants:
                continue
            cure = f"name it in constants=({name!r},) if it never changes"
            if isinstance(part, InstanceNorm):
                cure = "use track_running_stats=False"
            yield f"buffer {name!r} would be kept from pass to pass; {cure}"
    for name in sorted(set(constants) - there):
        yield f"constants names {name!r}, which is no buffer; there are {sorted(there) or 'none'}"
