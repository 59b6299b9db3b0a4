"""What a module does with a few examples: its layers, its head, and whether it may be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from metadist.backbones import Norm
from metadist.backbones._instrument import Instrument, Pass
from metadist.backbones._kinds import Dropout
from metadist.errors import RecipeError
from metadist.keys import Key
from metadist.tasks import TaskShape

EXAMPLES = 3


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


def examine(name: str, instrument: Instrument, shape: TaskShape) -> Found:
    """Have a module, with the parameters that it has, take passes over examples of a shape.

    Args:
        name: of the network, for messages.
        instrument: the module's; it is told of the head, if it has not been.

    Raises:
        RecipeError: the module does not fit the tasks, has no head, or is no pure function.
    """
    key = Key.of("metadist", "examination")
    examples = key.uniform((EXAMPLES, *shape.inputs))
    examination = _Examination(name, instrument, shape, examples)
    with torch.no_grad():
        return key.module(examination.found)


@dataclass(frozen=True)
class _Examination:
    name: str
    instrument: Instrument
    shape: TaskShape
    examples: Tensor

    def found(self) -> Found:
        set_mode(self.instrument.module)
        first, _ = self._pass()
        head = self._head(first)
        self.instrument.head = head
        self._check_pure()
        parts = dict(self.instrument.module.named_modules())
        order = dict.fromkeys([*(name for name in first.calls if name != head), head])
        layers = {name: _outputs(parts[name]) for name in order}
        return Found(layers, {name: len(mean) for name, (mean, _) in first.statistics.items()})

    def _refuse(self, what: str) -> RecipeError:
        return RecipeError(f"{self.name}: {what}")

    def _pass(self) -> tuple[Pass, Tensor]:
        """A pass, and its outputs [n, outputs]."""
        run, x = Pass(Norm("batch", record=True)), self.examples.clone()
        try:
            with self.instrument.listening(run):
                outputs = self.instrument.module(x)
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
        """The name of the head, from what was called."""
        parts = dict(self.instrument.module.named_modules())
        linear = [name for name in run.calls if isinstance(parts[name], nn.Linear)]
        if asked := self.instrument.head:
            if asked not in linear:
                raise self._refuse(
                    f"head={asked!r} must name a linear layer that a pass goes through; there are "
                    f"{', '.join(dict.fromkeys(linear)) or 'none'}"
                )
        elif not linear:
            raise self._refuse("it has no linear layer that is the head; end it with nn.Linear")
        head = asked or linear[-1]
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


def set_mode(module: nn.Module) -> None:
    """Training mode, in which torch takes no short cuts, but for dropout that drops nothing."""
    module.train()
    for part in module.modules():
        if isinstance(part, Dropout):
            part.eval()


def _outputs(layer: nn.Module) -> int:
    """Units or channels of a linear or convolutional layer."""
    found = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    return int(found)  # type: ignore[arg-type]
