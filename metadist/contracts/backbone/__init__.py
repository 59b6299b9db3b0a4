"""What a network is held to, on inputs of several shapes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from metadist import backbones
from metadist.contracts import documentation
from metadist.contracts.backbone import derivatives, passes
from metadist.contracts.backbone.net import ENOUGH, INPUTS, Net, make
from metadist.contracts.finding import Finding, Inspection, found
from metadist.discovery import find
from metadist.errors import RecipeError
from metadist.overrides import Scalar


def inspect(name: str, options: Mapping[str, Scalar], inspection: Inspection) -> None:
    """Run all checks of a network."""
    module = find(backbones, name, "backbone")
    inspection.run(documentation.CHECKS, module)
    nets: list[tuple[Net, str]] = []
    reasons: list[str] = []

    def builds(inputs: tuple[int, ...]) -> Iterator[Finding]:
        try:
            net = make(name, options, inputs)
        except RecipeError as error:
            reasons.append(str(error))
            return
        if not getattr(module, "NORMALISES", True) and net.network.norm_layers:
            yield found(
                "no norm_layers where the module says NORMALISES = False",
                sorted(net.network.norm_layers),
                "leave NORMALISES out",
            )
        elif getattr(module, "NORMALISES", True) and not net.network.norm_layers:
            yield found(
                "NORMALISES = False in a module whose network has no norm_layers",
                "none",
                "write it: recipes then need no model.norm = 'none'",
                "warning",
            )
        nets.append((net, f"inputs {list(inputs)}"))

    kinds: dict[int, int] = {}
    for inputs in INPUTS:
        if kinds.get(len(inputs), 0) < ENOUGH:
            before = len(nets)
            inspection.run([builds], inputs, f"inputs {list(inputs)}")
            kinds[len(inputs)] = kinds.get(len(inputs), 0) + len(nets) - before
            if len(nets) == before:
                inspection.settings.pop(f"inputs {list(inputs)}", None)
    for net, on in nets:
        inspection.run((*passes.CHECKS, *derivatives.CHECKS), net, on)
    if not nets and not inspection.findings:
        inspection.run([_takes_something], reasons)


def _takes_something(reasons: list[str]) -> Iterator[Finding]:
    yield found(
        f"a network that takes one of {', '.join(str(list(inputs)) for inputs in INPUTS)}",
        f"none: {'; '.join(dict.fromkeys(reasons))}",
        "see what build refuses",
    )
