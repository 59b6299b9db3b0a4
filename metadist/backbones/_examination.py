"""What a module does with a few examples: its layers, its head, and whether it may be used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial

import torch
from torch import Tensor, nn
from torch.func import functional_call

from metadist.backbones import Norm
from metadist.backbones._instrument import Instrument, Pass
from metadist.backbones._kinds import Dropout
from metadist.errors import RecipeError
from metadist.keys import Key
from metadist.tasks import Params, TaskShape

EXAMPLES = 3
_KEY = Key.of("metadist", "examination")


@dataclass(frozen=True)
class Found:
    """What an examination has found.

    Attributes:
        layers: outputs of each linear map by name, in the order of their first calls; the head
            last.
        norm_layers: channels of each call of a batch normalisation.
    """

    layers: Mapping[str, int]
    norm_layers: Mapping[str, int]


@dataclass(frozen=True)
class Examination:
    """Has a module, with the parameters that it has, take passes over examples of a shape.

    Attributes:
        name: of the network, for messages.
        instrument: the module's; it is told of the head, if it has not been.
    """

    name: str
    instrument: Instrument
    shape: TaskShape

    def found(self, other: nn.Module) -> Found:
        """What it comes to; ``other`` is of the same kind, and nothing of it is left as it is.

        Raises:
            RecipeError: the module does not fit the tasks, has no head, or is no pure function.
        """
        with torch.no_grad():
            return _KEY.module(partial(self._found, other))

    @cached_property
    def _examples(self) -> Tensor:
        return _KEY.uniform((EXAMPLES, *self.shape.inputs))

    def _found(self, other: nn.Module) -> Found:
        set_mode(self.instrument.module)
        first, _ = self._pass()
        head = self._head(first)
        self.instrument.head = head
        self._check_pure()
        self._check_reached(other)
        parts = dict(self.instrument.module.named_modules())
        order = dict.fromkeys([*(name for name in first.calls if name != head), head])
        layers = {name: _outputs(parts[name]) for name in order}
        return Found(layers, {name: len(mean) for name, (mean, _) in first.statistics.items()})

    def _refuse(self, what: str) -> RecipeError:
        return RecipeError(f"{self.name}: {what}")

    def _pass(self, params: Params | None = None) -> tuple[Pass, Tensor]:
        """A pass, with the module's own parameters or others, and its outputs [n, outputs]."""
        run, x = Pass(Norm("batch", record=True)), self._examples.clone()
        try:
            with self.instrument.listening(run):
                module = self.instrument.module
                outputs = functional_call(module, params or {}, (x,), tie_weights=False)
        except Exception as error:
            said = " ".join(str(error).split())
            raise self._refuse(
                f"a pass over {EXAMPLES} examples of shape {self.shape.inputs} fails: "
                f"{type(error).__name__}: {said}"
            ) from error
        if x._version:
            raise self._refuse("it changes its input in place; write x = x + 1 for x += 1")
        if not isinstance(outputs, Tensor):
            raise self._refuse(f"its forward must return a tensor, got {type(outputs).__name__}")
        wanted = (EXAMPLES, self.shape.outputs)
        if tuple(outputs.shape) != wanted:
            raise self._refuse(
                f"outputs of shape {wanted} are needed for {EXAMPLES} examples, got "
                f"{tuple(outputs.shape)}; the last layer must have as many outputs as the factory "
                "is asked for"
            )
        return run, outputs

    def _head(self, run: Pass) -> str:
        parts = dict(self.instrument.module.named_modules())
        linear = [name for name in run.calls if isinstance(parts[name], nn.Linear)]
        asked = self.instrument.head
        if asked is not None:
            if asked not in linear:
                raise self._refuse(
                    f"head={asked!r} must name a linear layer that a pass goes through; there are "
                    f"{', '.join(dict.fromkeys(linear)) or 'none'}"
                )
        elif not linear:
            raise self._refuse("it has no linear layer that is the head; end it with nn.Linear")
        head = linear[-1] if asked is None else asked
        if run.calls.count(head) > 1:
            raise self._refuse(
                f"the head {head!r} is called {run.calls.count(head)} times in a pass, so that "
                "nothing is 'what enters it'; call it once, or name another with head="
            )
        if (outputs := _outputs(parts[head])) != self.shape.outputs:
            raise self._refuse(
                f"the head {head!r} has {outputs} outputs, {self.shape.outputs} are needed; build "
                "it with as many as the factory is asked for, or name another with head="
            )
        return head

    def _check_pure(self) -> None:
        module = self.instrument.module
        constants = {name: b.clone() for name, b in module.named_buffers()}
        drawn = torch.get_rng_state()
        run, outputs = self._pass()
        if not torch.equal(drawn, torch.get_rng_state()):
            raise self._refuse(
                "its forward draws random numbers (F.dropout, torch.rand), which a pure function "
                "cannot; take them out, or use p=0"
            )
        assert run.features is not None
        if run.features.dim() != 2 or len(run.features) != EXAMPLES:
            raise self._refuse(
                f"features [n, D] must enter the head {self.instrument.head!r}, got shape "
                f"{tuple(run.features.shape)} for {EXAMPLES} examples; flatten or average them"
            )
        if not torch.equal(outputs, self._pass()[1]):
            raise self._refuse(
                "the same pass gives other numbers when it is taken again: its forward keeps a "
                "state, or draws from NumPy's or Python's generator; take that out"
            )
        module.eval()
        other = self._pass()[1]
        set_mode(module)
        if not torch.allclose(outputs, other, rtol=1e-3, atol=1e-3 * float(outputs.abs().max())):
            raise self._refuse(
                "it does something else in evaluation than in training (self.training), and a "
                "network here is one function; have it do one thing"
            )
        for name, before in constants.items():
            if not torch.equal(before, module.get_buffer(name)):
                raise self._refuse(f"buffer {name!r} is no constant: a pass changes it")

    def _check_reached(self, other: nn.Module) -> None:
        """With the parameters of another of its kind, it must compute what that other does."""
        twin = replace(self, instrument=Instrument(other, self.instrument.head))
        set_mode(other)
        for name, b in self.instrument.module.named_buffers():
            other.get_buffer(name).copy_(b)
        params: Params = dict(other.named_parameters(remove_duplicate=False))

        def move(names: Iterable[str]) -> tuple[Tensor, Tensor]:
            for name in names:
                p = params[name]
                # In place, for whoever keeps the other's parameters; upwards, as a scale stays one.
                p.add_(0.1 * Key.of("metadist", "moved", name).uniform(p.shape))
            return self._pass(params)[1], twin._pass()[1]

        own = [name for name, _ in other.named_parameters()]
        got, wanted = move(own)
        if _close(got, wanted):
            return
        kept = []
        for name in own:
            before, (got, wanted) = (got, wanted), move([name])
            if _close(got, before[0]) and not _close(wanted, before[1]):
                kept.append(name)
        raise self._refuse(
            f"a pass does not go by {', '.join(kept[:3]) or 'its parameters alone'}: it computes "
            "with numbers that were kept when it was made, and never learns (a parameter in a "
            "list, a NumPy array of one, a module or tensor in a closure or object); have forward "
            "read self.<name>, and use nn.ParameterList and nn.ModuleList"
        )


def _close(a: Tensor, b: Tensor) -> bool:
    size = float(b.nan_to_num(0, 0, 0).abs().max())
    return torch.allclose(a, b, rtol=1e-4, atol=1e-5 * size, equal_nan=True)


def set_mode(module: nn.Module) -> None:
    """Training mode, in which torch takes no short cuts, but for dropout that drops nothing."""
    module.train()
    for part in module.modules():
        if isinstance(part, Dropout):
            part.eval()


def _outputs(layer: nn.Module) -> int:
    found = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    return int(found)  # type: ignore[arg-type]
