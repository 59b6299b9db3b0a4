"""What a network is, and what its passes give."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from metadist.backbones import Backbone, Norm
from metadist.contracts.backbone.net import EXAMPLES, OUTPUTS, Net
from metadist.contracts.differences import EXACT, distance
from metadist.contracts.finding import Finding, found
from metadist.contracts.purity import fresh, impure
from metadist.tasks import Params


def fresh_parameters(net: Net) -> Iterator[Finding]:
    """Float32 on the CPU, from the key alone."""
    yield from fresh(net.network.init, net.network)


def layers(net: Net) -> Iterator[Finding]:
    """Each layer's parameters are there, the last is the head; norm parameters are [C]."""
    network, params = net.network, net.params
    if not network.layers:
        yield found("layers, the head last", "none", "list the linear maps as Layer(...)")
        return
    missing = [p for layer in network.layers for p in layer.parameters if p not in params]
    if missing:
        yield found(
            "the weight of each of `layers`, and its bias where bias=True, among the parameters",
            f"none called {', '.join(missing)}",
            "let Layer.name be the name before .weight and .bias",
        )
    if network.layers[-1].outputs != OUTPUTS:
        yield found(
            f"a head of {OUTPUTS} outputs, the last of `layers`",
            f"{network.layers[-1].name!r} with {network.layers[-1].outputs}",
            "list the head last, with shape.outputs",
        )
    yield from _norm_parameters(network, params)


def _norm_parameters(network: Backbone, params: Params) -> Iterator[Finding]:
    """Those that are named are [C], and none is left out."""
    named, channels = network.norm_parameters, {(c,) for c in network.norm_layers.values()}
    if wrong := sorted(n for n in named & params.keys() if params[n].dim() != 1):
        yield found("norm_parameters that are [C]", ", ".join(wrong), "leave out what is none")
    others = {p for layer in network.layers for p in layer.parameters} | named
    left = [n for n, p in params.items() if n not in others and tuple(p.shape) in channels]
    if left:
        stray = sorted(named - params.keys())
        beside = f", but {', '.join(stray)}" if stray else ""
        yield found(
            "norm_parameters with every scale and shift of the normalisation layers",
            f"none called {', '.join(left)}{beside}",
            "name them as init does; MAML's inner loop leaves those alone",
            "error" if stray else "warning",
        )


def outputs(net: Net) -> Iterator[Finding]:
    """Shapes and types of a pass; without the head, what enters it."""
    passed = net.passed()
    if tuple(passed.value.shape) != (EXAMPLES, OUTPUTS):
        yield found(
            f"outputs [{EXAMPLES}, {OUTPUTS}]",
            list(passed.value.shape),
            "end with the head; shape.outputs says how many",
        )
    if passed.features.dim() != 2 or len(passed.features) != EXAMPLES:
        yield found(
            f"features [{EXAMPLES}, D]", list(passed.features.shape), "flatten what enters the head"
        )
    head = net.network.layers[-1].parameters
    body = {n: p for n, p in net.params.items() if n not in head}
    without = net.passed(body, head=False)
    if without.value.shape != passed.features.shape or not torch.equal(
        without.value, passed.features
    ):
        yield found(
            "with head=False, the features as value",
            "something else",
            "return Output(features, features, ...) before the last layer",
        )
    weights = [net.params[p] for p in head]
    if len(weights) <= 2 and weights[0].shape[-1:] == passed.features.shape[1:]:
        again = F.linear(passed.features, *weights)
        if not torch.allclose(again, passed.value, rtol=EXACT, atol=EXACT):
            yield found(
                "features that enter the head: value = features · weight + bias",
                "other values",
                "return as features what the last of `layers` is given",
            )
    for kind in (torch.float32, torch.float64):
        own = {n: p.to(kind) for n, p in net.params.items()}
        got = net.network.forward(own, net.x.to(kind), net.batch).value
        if got.dtype != kind:
            yield found(f"{kind} of {kind} parameters", got.dtype, "convert nothing inside")
    if odd := [n for n, a in passed.activations.items() if len(a) != EXAMPLES]:
        yield found(f"activations [{EXAMPLES}, ...]", ", ".join(odd), "keep the first axis")


def pure(net: Net) -> Iterator[Finding]:
    """A pass has the same bits twice, and draws, keeps and changes nothing."""
    given = (net.params, net.x)
    yield from impure("forward", lambda: vars(net.passed()), given, net.network)


def examples_apart(net: Net) -> Iterator[Finding]:
    """Without statistics of the batch, each example is passed by itself."""
    norm = Norm("off")
    whole = net.passed(norm=norm).value
    few = net.network.forward(net.params, net.x[:2], norm).value
    if distance({"value": few}, {"value": whole[:2]}) > EXACT:
        yield found(
            "outputs that depend on their own example where norm.kind is 'off'",
            "others with fewer beside it",
            "normalise over the batch only where norm.kind is 'batch'",
        )


def normalisation(net: Net) -> Iterator[Finding]:
    """The modes of ``norm``, and what is recorded."""
    layers = net.network.norm_layers
    passed = net.passed()
    if set(passed.statistics) != set(layers):
        yield found(
            f"statistics of each of norm_layers, {sorted(layers)}, where norm.record is set",
            sorted(passed.statistics),
            "call backbones' normalise(...) with the layer's name, and list it in norm_layers",
        )
        return
    if not layers:
        return
    for layer, channels in layers.items():
        shapes = [tuple(s.shape) for s in passed.statistics[layer]]
        if shapes != [(channels,), (channels,)]:
            yield found(
                f"mean and variance [{channels}] of {layer}",
                shapes,
                "record (mean, biased variance) over batch and space",
            )
            return
    mend = "see how conv4 uses normalise(...) of metadist.backbones"
    if net.passed(norm=Norm("batch")).statistics:
        yield found("no statistics where norm.record is not set", "some", mend)
    given = net.passed(norm=Norm("given", statistics=passed.statistics)).value
    if distance({"value": given}, {"value": passed.value}) > 1e-6:
        yield found(
            "the same outputs where the recorded statistics of the batch are given",
            "others: what is recorded is not what the layer normalised by",
            mend,
        )
    other = {n: (m + 0.5, v * 2) for n, (m, v) in passed.statistics.items()}
    changed = net.passed(norm=Norm("given", statistics=other)).value
    if torch.equal(changed, given):
        yield found("other outputs where other statistics are given", "the same", mend)
    if torch.equal(net.passed(norm=Norm("off")).value, passed.value):
        yield found("other outputs where norm.kind is 'off'", "those of 'batch'", mend)


def layer_hook(net: Net) -> Iterator[Finding]:
    """It is given every layer's output, and what it returns takes its place."""
    names = [layer.name for layer in net.network.layers]
    met: list[str] = []

    def look(name: str, value: Tensor) -> Tensor:
        met.append(name)
        return value

    plain = net.passed().value
    # A layer that is called again is met again.
    if not torch.equal(net.passed(layer_hook=look).value, plain) or [*dict.fromkeys(met)] != names:
        yield found(
            f"layer_hook called with each of `layers` in order, {names}",
            met,
            "call x = layer_hook(name, x) after each layer's bias, before its normalisation",
        )
        return

    def only(name: str) -> Tensor:
        def change(at: str, value: Tensor) -> Tensor:
            ramp = torch.linspace(0, 1, value.numel(), dtype=value.dtype).reshape(value.shape)
            return value + ramp if at == name else value

        return net.passed(layer_hook=change).value

    if idle := [name for name in names if torch.equal(only(name), plain)]:
        yield found(
            "what layer_hook returns in the place of a layer's output",
            f"outputs that do not change with it at {', '.join(idle)}",
            "assign it: x = layer_hook(name, x)",
        )


CHECKS = (fresh_parameters, layers, outputs, examples_apart, normalisation, layer_hook)
