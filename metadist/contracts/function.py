"""What a family of functions is held to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_pipeline import functions
from data_pipeline.datasets import PARTS, Part
from data_pipeline.functions import Drawn, FunctionFamily, FunctionSpec
from data_pipeline.rng import Stream, fold
from metadist.contracts import documentation
from metadist.contracts.finding import Finding, Inspection, found
from metadist.contracts.purity import impure, same, snapshot
from metadist.overrides import Scalar

_ROWS = "a row for each point and SPEC.{0} columns; a flat array of one column is {1}[:, None]"
_SHAPES = {
    "x": _ROWS.format("inputs", "x"),
    "y": _ROWS.format("outputs", "y"),
    "latent": "return a flat array with a number for each name in SPEC.latent",
}
POINTS, MORE, FUNCTIONS = 7, 19, 20
PURE = "draw from `stream` (stream.uniforms, stream.below), and keep nothing from call to call"


@dataclass(frozen=True)
class Family:
    """A family in a part."""

    module: FunctionFamily
    part: Part

    def draw(self, index: int = 0, points: int = POINTS) -> Drawn:
        """A function of the family."""
        return self.module.draw(Stream(fold("check"), index), points, self.part)


def spec(module: FunctionFamily) -> Iterator[Finding]:
    """``SPEC`` says all that is shown and recorded."""
    own: Any = module.SPEC
    if not isinstance(module.SPEC, FunctionSpec):
        yield found("SPEC, a FunctionSpec", repr(own), "see data_pipeline.functions.FunctionSpec")
        return
    if not own.summary:
        yield found("SPEC.summary, not empty", repr(own.summary), "say the functions in one line")
    for name in ("inputs", "outputs", "version"):
        if not isinstance(value := getattr(own, name), int) or value < 1:
            yield found(f"SPEC.{name}, 1 or more", repr(value), "fill it in")
    if isinstance(own.latent, str) or not all(isinstance(name, str) for name in own.latent):
        yield found("SPEC.latent, names", repr(own.latent), "as ('amplitude', 'phase')")


def shapes(family: Family) -> Iterator[Finding]:
    """Finite float64 arrays of the shapes that ``SPEC`` says."""
    own = family.module.SPEC
    wanted = {"x": (POINTS, own.inputs), "y": (POINTS, own.outputs), "latent": (len(own.latent),)}
    for index in range(FUNCTIONS):
        drawn: Any = family.draw(index)
        for (name, shape), array in zip(wanted.items(), drawn, strict=True):
            if not isinstance(array, np.ndarray) or array.shape != shape:
                got = getattr(array, "shape", type(array).__name__)
                yield found(f"{name} {list(shape)} of {POINTS} points", got, _SHAPES[name])
                return
            if array.dtype != np.float64 or not np.isfinite(array).all():
                state = array.dtype if array.dtype != np.float64 else "NaN or infinity"
                yield found(f"finite float64 {name}", state, "compute in NumPy's float64")
                return


def pure(family: Family) -> Iterator[Finding]:
    """The same bits from an equal stream, nothing drawn elsewhere; others from another stream."""
    yield from impure("draw", family.draw, (), None, PURE)
    if same(snapshot(family.draw(0)[1]), snapshot(family.draw(1)[1])):
        yield found(
            "another function from another stream", "the same", "draw parameters from the stream"
        )


def points(family: Family) -> Iterator[Finding]:
    """The parameters, and the first points, do not depend on how many points are asked for."""
    few, many = family.draw(), family.draw(points=MORE)
    names = ("x", "y", "latent")
    odd = [
        name
        for name, a, b in zip(names, few, many, strict=True)
        if not np.array_equal(a, b if name == "latent" else b[:POINTS])
    ]
    if odd:
        yield found(
            f"the same first {POINTS} points, and parameters, where {MORE} points are asked for",
            f"others: {', '.join(odd)}",
            "draw parameters first, then point after point: stream.uniforms(2 + points)",
        )


CHECKS = (shapes, pure, points)


def inspect(name: str, options: Mapping[str, Scalar], inspection: Inspection) -> None:
    """Run all checks of a family of functions."""
    module = functions.load(name)
    inspection.run((documentation.docstring, spec), module)  # type: ignore[arg-type]
    for part in PARTS:
        inspection.run(CHECKS, Family(module, part), f"part {part!r}")
