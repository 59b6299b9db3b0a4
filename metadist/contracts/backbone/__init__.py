"""What a network is held to, on inputs of several shapes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from metadist import backbones
from metadist.contracts import documentation
from metadist.contracts.backbone import derivatives, passes
from metadist.contracts.backbone.net import INPUTS, Net, make
from metadist.contracts.finding import Finding, Inspection, first_this, found
from metadist.discovery import find
from metadist.overrides import Scalar


def inspect(name: str, options: Mapping[str, Scalar], inspection: Inspection) -> None:
    """Run all checks of a network; what ``options`` leave open is as its module's SMALL says."""
    module = find(backbones, name, "backbone")
    inspection.run(documentation.CHECKS, module)
    small = {name: v for name, v in getattr(module, "SMALL", {}).items() if name not in options}
    so = "".join(f", {name} = {value}" for name, value in small.items())
    nets: dict[str, Net] = {}

    def builds(net: Net) -> Iterator[Finding]:
        return _normalises(getattr(module, "NORMALISES", True), net)

    for inputs in INPUTS:
        alike = [net for net in nets.values() if len(net.shape.inputs) == len(inputs)]
        if alike and len(alike) >= alike[0].enough:
            continue
        if net := inspection.builds(partial(make, name, {**options, **small}, inputs)):
            nets[f"inputs {list(inputs)}{so}"] = net
            inspection.run([builds], net)
    for on, net in nets.items():
        if inspection.run([passes.pure], net, on):
            inspection.run((*passes.CHECKS, *derivatives.CHECKS), net, on)
        else:
            inspection.add(first_this("a pure function, to look at what it computes"))
    if not nets and not inspection.findings:
        taken = ", ".join(str(list(inputs)) for inputs in INPUTS)
        refused = "; ".join(dict.fromkeys(inspection.refused))
        nothing = found(
            f"a network that takes one of {taken}", f"none: {refused}", "see what build refuses"
        )
        inspection.tell("takes something", [nothing])


def _normalises(says: bool, net: Net) -> Iterator[Finding]:
    """What the module says of normalisation is so."""
    layers = net.network.norm_layers
    if layers and not says:
        yield found(
            "no norm_layers where the module says NORMALISES = False",
            sorted(layers),
            "leave NORMALISES out",
        )
    elif says and not layers:
        yield found(
            "NORMALISES = False in a module whose network has no norm_layers",
            "none",
            "write it: recipes then need no model.norm = 'none'",
            "warning",
        )
