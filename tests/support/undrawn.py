"""Reports without their pictures.

A small training takes a tenth of a second, and matplotlib a second to draw the curves of its
report. Only tests of reports look at them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any

import pytest
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from metadist.report import svg


class Nothing:
    """Takes whatever is done to it: axes, lines, ticks and texts that are not there."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *given: Any, **more: Any) -> Any:
        return self

    def __getitem__(self, key: Any) -> Any:
        return self

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def get_xlim(self) -> tuple[float, float]:
        return 0.0, 1.0

    get_ylim = get_xlim

    def get_legend_handles_labels(self) -> tuple[list[Any], list[str]]:
        return [], []


class Undrawn(Nothing):
    """Takes whatever is plotted and leaves an empty picture of its size."""

    def __init__(self, figsize: tuple[float, float], **options: Any) -> None:
        self.size = figsize
        self.axes: list[Nothing] = []
        self.dpi = 72

    def subplots(self, rows: int = 1, columns: int = 1, **options: Any) -> None:
        self.axes += [Nothing() for _ in range(rows * columns)]

    def savefig(self, fname: IO[str], **options: Any) -> None:
        width, height = (72 * inches for inches in self.size)
        fname.write(f'<svg viewBox="0 0 {width:g} {height:g}"></svg>')


def choose(item: pytest.Item) -> None:
    """What a test sees: pictures in tests of reports, and in those marked ``drawn``; none in those
    marked ``drawn(False)``."""
    mark = item.get_closest_marker("drawn")
    drawn = "report" in item.path.parts if mark is None else mark.args != (False,)
    names = vars(svg)
    names["Figure"] = Figure if drawn else Undrawn
    names["FigureCanvasSVG"] = FigureCanvasSVG if drawn else Nothing()
