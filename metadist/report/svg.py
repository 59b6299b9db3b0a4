"""Matplotlib figures as inline SVG that follows the page's colours and is the same in each run."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.resources import files
from typing import Any

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter

from metadist.statistics.format import cut

#: Colours by role. Matplotlib draws with these placeholders; the page says what they look like,
#: light or dark. None is black: matplotlib leaves that out.
_ROLES = ("fg", "muted", "grid", "main", "second", "good", "bad", "card")
_VARIABLES = {f"#{n:02x}fe{n:02x}": f"var(--{role})" for n, role in enumerate(_ROLES, 1)}
FG, MUTED, GRID, MAIN, SECOND, GOOD, BAD, CARD = _VARIABLES
#: What the variables are on a light page.
_CSS = files("metadist.report").joinpath("templates/style.css").read_text(encoding="utf-8")
_LIGHT = dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6})", _CSS[: _CSS.index("}")]))
#: What XML or UTF-8 cannot hold, and what turns the text around it: control characters but for tab
#: and new line, marks and overrides of direction, halves of surrogate pairs.
_UNSEEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
#: Of a text in a picture.
_LETTERS = 80
_SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "metadist",
    "svg.fonttype": "none",
    "svg.id": None,
    "font.family": "DejaVu Sans",
    "font.size": 10.0,
    "text.color": FG,
    "text.parse_math": False,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": FG,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10.0,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.unicode_minus": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 3.0,
    "ytick.major.size": 0.0,
    "ytick.minor.size": 0.0,
    "figure.facecolor": "none",
    "legend.frameon": False,
    "legend.labelcolor": FG,
    "legend.fontsize": 9.0,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "path.simplify": True,
}


def plain(text: str) -> str:
    """A text of somebody else's for a page or picture, without what only damages either."""
    return _UNSEEN.sub("\ufffd", text)


class Drawing:
    """A figure being drawn; ``svg`` holds its text afterwards, which a page takes as it is.

    Attributes:
        figure: somebody else's may be put in its place.
    """

    def __init__(self, figure: Figure) -> None:
        self.figure = figure
        self.svg = ""

    def axes(self, title: str = "") -> Axes:
        """The figure's axes, if there is one, else its first; under a title."""
        self.figure.axes[0].set_title(title)
        return self.figure.axes[0]


@contextmanager
def drawing(
    name: str, label: str, *, size: tuple[float, float] = (6.2, 3.3), columns: int = 1
) -> Iterator[Drawing]:
    """Draw a figure with the page's look.

    Args:
        name: unique in the page; letters only.
        label: what a screen reader says.
        size: in inches of 72 units.
        columns: axes side by side.
    """
    with mpl.rc_context():
        mpl.rcdefaults()  # a user's matplotlibrc must not change a report
        mpl.rcParams.update(_SETTINGS)
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        figure.subplots(1, columns, squeeze=False)
        result = Drawing(figure)
        yield result
        _fit(result.figure)
        buffer = io.StringIO()
        metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
        with warnings.catch_warnings():
            # The reader's fonts draw the text, not matplotlib's.
            warnings.filterwarnings("ignore", "Glyph .* missing from font")
            # Of long names of many things: what there is room for is drawn.
            warnings.filterwarnings("ignore", "constrained_layout not applied")
            result.figure.savefig(buffer, format="svg", metadata=metadata)
        # Markup here and nowhere else: matplotlib has escaped every text of the figure.
        result.svg = Markup(_inline(buffer.getvalue(), name, plain(label)))


def _fit(figure: Figure) -> None:
    """Have texts be such as a picture can hold, and none that leaves no room for what is drawn."""
    for text in figure.findobj(Text):
        text.set_text(cut(plain(text.get_text()), _LETTERS))
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        # What names of ticks become.
        if isinstance(ticks := axis.get_major_formatter(), FuncFormatter):
            ticks.func = partial(_tick, ticks.func)


def _tick(tell: Callable[[float, int | None], str], value: float, place: int | None) -> str:
    return cut(plain(tell(value, place)), _LETTERS)


def pictures(page: str) -> dict[str, str]:
    """Every figure of a page as a file of its own, by the figure's name."""
    found = re.finditer(r'<svg id="([\w-]+)".*?</svg>', page, flags=re.DOTALL)
    return {match[1]: standalone(match[0]) for match in found}


def standalone(svg: str) -> str:
    """A figure of a page as a file of its own: light, on white, with plain colours.

    Viewers that know no CSS variables draw it as browsers do.
    """
    for name, color in _LIGHT.items():
        svg = svg.replace(f"var(--{name})", color)
    svg = svg.replace("var(--font)", "DejaVu Sans, Verdana, sans-serif")
    view = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    if view is None:
        return svg
    width, height = view.groups()
    head, _, body = svg.partition(">")
    white = f'<rect width="{width}" height="{height}" fill="#ffffff"/>'
    return f'{head} width="{width}pt" height="{height}pt">{white}{body}\n'


def _inline(text: str, name: str, label: str) -> str:
    """The SVG element alone, scalable, with ids of its own and the page's colours and font."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    head, body = text.split(">", 1)
    view = re.search(r'viewBox="[^"]*"', head)
    box = view[0] if view else ""
    head = (
        f'<svg id="{name}" {box} xmlns="http://www.w3.org/2000/svg" '
        f'xmlns:xlink="http://www.w3.org/1999/xlink" role="img" aria-label="{escape(label)}"'
    )
    body = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", body)
    body = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', body)
    body = re.sub(r"font: ([^;\"]*?px) [^;\"]*", r"font: \1 var(--font)", body)
    for placeholder, variable in _VARIABLES.items():
        body = body.replace(placeholder, variable)
    return f"{head}>{body}".strip()
