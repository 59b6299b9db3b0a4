"""Reports without their pictures.

A small training takes a tenth of a second, and matplotlib a second to draw the curves of its
report. Only tests of reports look at them.
"""

from __future__ import annotations

from typing import IO, Any

import pytest
from matplotlib.figure import Figure

from metadist.report import svg


class Undrawn(Figure):
    """Takes whatever is plotted and leaves an empty picture of its size."""

    def savefig(self, fname: IO[str], **options: Any) -> None:  # type: ignore[override]
        width, height = (72 * inches for inches in self.get_size_inches())
        fname.write(f'<svg viewBox="0 0 {width:g} {height:g}"></svg>')


def choose(item: pytest.Item) -> None:
    """What a test sees: pictures in tests of reports, and in those marked ``drawn``; none in those
    marked ``drawn(False)``."""
    mark = item.get_closest_marker("drawn")
    drawn = "report" in item.path.parts if mark is None else mark.args != (False,)
    svg.Figure = Figure if drawn else Undrawn  # type: ignore[attr-defined]
