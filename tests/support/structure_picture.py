"""The picture of the rooms: boxes by layer, arrows from the imports.

Layered drawing of a graph (Sugiyama, Tagawa, Toda 1981): a row for each rank, an order within the
rows that has few crossings, then places near the neighbours. An arrow that follows from others is
left out.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from itertools import pairwise
from statistics import fmean
from textwrap import shorten
from xml.sax.saxutils import escape

from structure import Source

PICTURE = "docs/images/architecture.svg"
BOX, HIGH, ROW, GAP, WAY, EDGE = 200, 42, 66, 16, 16, 24
SWEEPS = 30
#: A room to which all arrows lead that leave metadist.
BELOW = "data_pipeline"
STYLE = """
text { font: 11px system-ui, sans-serif; fill: #57606a; text-anchor: middle }
.name { font-size: 13px; font-weight: 600; fill: #1f2328 }
rect { fill: #ffffff; stroke: #8c959f }
.frame { fill: #f6f8fa; stroke: #d0d7de }
path { fill: none; stroke: #8c959f; stroke-width: 1.2 }
.tip { fill: #8c959f; stroke: none }
@media (prefers-color-scheme: dark) {
text { fill: #9198a1 }
.name { fill: #f0f6fc }
rect { fill: #151b23; stroke: #656c76 }
.frame { fill: #0d1117; stroke: #3d444d }
path { stroke: #656c76 }
.tip { fill: #656c76; stroke: none }
}"""

Graph = Mapping[str, set[str]]
#: A box or a place where an arrow passes a row, by name and rank.
Spot = tuple[str, int]


@dataclass
class Drawing:
    """Boxes and arrows in rows; the first row is the lowest."""

    rows: list[list[Spot]]
    links: list[tuple[Spot, Spot]]  # from a row to the row below
    at: dict[Spot, float] = field(default_factory=dict)  # middle of each spot

    @property
    def width(self) -> float:
        return max(self.at.values()) + BOX / 2


def draw(source: Source) -> str:
    """The picture, an SVG document.

    Raises:
        graphlib.CycleError: rooms import each other in a circle.
    """
    layers = [row for contract in source.layers for row in contract.rows]
    house = _drawing(source.collapsed(_room), layers, lowest=BELOW)
    below = _drawing(source.units(BELOW), layers)
    width = max(house.width, below.width + 2 * EDGE) + 2 * EDGE
    floor = EDGE + ROW * (len(house.rows) - 1)  # row 0 of the house is the frame of the data
    height = floor + ROW * len(below.rows) + 2 * EDGE
    parts = [
        _frame(EDGE, floor, width - 2 * EDGE, height - floor - EDGE / 2),
        *_svg(house, source, "metadist", (width - house.width) / 2, floor - ROW),
        *_svg(below, source, BELOW, (width - below.width) / 2, height - ROW),
    ]
    return "\n".join([_head(width, height), *parts, "</svg>", ""])


def _room(module: str) -> str | None:
    """The box of a module; None for the package itself, through which everything is reached."""
    top, _, rest = module.partition(".")
    if top == "metadist":
        return None if rest in ("", "__main__") else rest.split(".")[0]
    return None if top == "cluster" else top


# --- the layout -----------------------------------------------------------------------------------


def _drawing(graph: Graph, layers: list[tuple[str, ...]], lowest: str | None = None) -> Drawing:
    """A drawing of a graph, with one of its nodes below all others."""
    graph = {node: graph[node] - {"__init__"} for node in sorted(graph) if node != "__init__"}
    below = {node: others | {lowest or node} - {node} for node, others in graph.items()}
    order = list(TopologicalSorter(below).static_order())
    drawing = _rows(_reduced(graph, order), _ranks(below, order, layers))
    _order(drawing)
    _place(drawing)
    return drawing


def _reduced(graph: Graph, order: list[str]) -> Graph:
    """Without the arrows that follow from others."""
    below: dict[str, set[str]] = {}
    for node in order:
        below[node] = set().union(*({other} | below[other] for other in graph[node]))
    return {
        node: {one for one in others if not any(one in below[other] for other in others)}
        for node, others in graph.items()
    }


def _ranks(graph: Graph, order: list[str], layers: list[tuple[str, ...]]) -> dict[str, int]:
    """Rows above the lowest: each box as low as it can be, and near to those of its layer."""
    lows: dict[str, int] = {}
    for node in order:
        lows[node] = max((lows[other] + 1 for other in graph[node]), default=0)
    top = max(lows.values())
    ranks: dict[str, int] = {}
    for node in reversed(order):
        highest = min((ranks[one] - 1 for one in graph if node in graph[one]), default=top)
        beside = next((layer for layer in layers if node in layer), (node,))
        wanted = max(lows[one] for one in beside if one in lows)
        ranks[node] = min(highest, wanted) if any(node in graph[one] for one in graph) else top
    return ranks


def _rows(graph: Graph, ranks: Mapping[str, int]) -> Drawing:
    rows: list[list[Spot]] = [[] for _ in range(max(ranks.values()) + 1)]
    links = []
    for node in sorted(graph):
        rows[ranks[node]].append((node, ranks[node]))
        for other in sorted(graph[node]):
            passed = range(ranks[node] - 1, ranks[other], -1)
            way = [(node, ranks[node]), *((f"{node}>{other}", rank) for rank in passed)]
            for spot in way[1:]:
                rows[spot[1]].append(spot)
            links += list(pairwise([*way, (other, ranks[other])]))
    return Drawing(rows, links)


def _order(drawing: Drawing) -> None:
    """Sort each row by the middle of its neighbours in the other row, up and down again."""
    best = [list(row) for row in drawing.rows]
    fewest = _crossings(drawing)
    for sweep in range(SWEEPS):
        upwards = sweep % 2 == 0
        rows = drawing.rows if upwards else drawing.rows[::-1]
        for row, moved in pairwise(rows):
            index = {spot: number for number, spot in enumerate(row)}
            place = {spot: number for number, spot in enumerate(moved)}
            near = _neighbours(drawing, below=upwards)
            middle = {
                spot: fmean([index[one] for one in near[spot]]) if near.get(spot) else place[spot]
                for spot in moved
            }
            moved.sort(key=lambda spot: middle[spot])
        if (crossings := _crossings(drawing)) < fewest:
            best, fewest = [list(row) for row in drawing.rows], crossings
    drawing.rows[:] = best


def _neighbours(drawing: Drawing, below: bool) -> dict[Spot, list[Spot]]:
    found: dict[Spot, list[Spot]] = {}
    for upper, lower in drawing.links:
        one, other = (upper, lower) if below else (lower, upper)
        found.setdefault(one, []).append(other)
    return found


def _crossings(drawing: Drawing) -> int:
    index = {spot: number for row in drawing.rows for number, spot in enumerate(row)}
    ends = [(upper[1], index[upper], index[lower]) for upper, lower in drawing.links]
    return sum(
        rank == other and (a - c) * (b - d) < 0 for rank, a, b in ends for other, c, d in ends
    )


def _wide(spot: Spot) -> int:
    return WAY if ">" in spot[0] else BOX


def _place(drawing: Drawing) -> None:
    """Put each spot as near to its neighbours as its row allows; no spot left of 0."""
    at = drawing.at
    for row in drawing.rows:
        at.update(zip(row, _spread(row, [0.0] * len(row)), strict=True))
    for sweep in range(SWEEPS):
        near = _neighbours(drawing, below=sweep % 2 == 0)
        for row in drawing.rows[:: 1 if sweep % 2 == 0 else -1]:
            wanted = [fmean([at[one] for one in near.get(spot, [spot])]) for spot in row]
            at.update(zip(row, _spread(row, wanted), strict=True))
    left = min(at[spot] - _wide(spot) / 2 for spot in at)
    for spot in at:
        at[spot] -= left


def _spread(row: list[Spot], wanted: list[float]) -> list[float]:
    """The places nearest to the wanted ones (least squares) that overlap nowhere."""
    starts = [0.0]
    for one, other in pairwise(row):
        starts.append(starts[-1] + (_wide(one) + _wide(other)) / 2 + GAP)
    blocks: list[list[float]] = []  # pool adjacent violators
    for value in (want - start for want, start in zip(wanted, starts, strict=True)):
        blocks.append([value])
        while len(blocks) > 1 and fmean(blocks[-2]) >= fmean(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    moved = [fmean(block) for block in blocks for _ in block]
    return [start + move for start, move in zip(starts, moved, strict=True)]


# --- the document ---------------------------------------------------------------------------------


def _head(width: float, height: float) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img">\n'
        "<title>The rooms of metadist: a room imports those that its arrows lead to, and those "
        f"below them</title>\n<style>{STYLE}\n</style>\n"
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path class="tip" d="M0 0L8 4L0 8z"/></marker></defs>'
    )


def _frame(x: float, y: float, width: float, height: float) -> str:
    return (
        f'<rect class="frame" x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{height:.0f}" '
        f'rx="8"/>\n<text class="name" x="{x + 12:.0f}" y="{y + 20:.0f}" '
        f'style="text-anchor: start">{BELOW}</text>'
    )


def _svg(drawing: Drawing, source: Source, package: str, left: float, lowest: float) -> list[str]:
    """Boxes over arrows.

    Args:
        left: where the drawing begins.
        lowest: the upper edge of the boxes of the lowest row that holds some.
    """
    skipped = int(drawing.rows[0] == [(BELOW, 0)])
    tops = {rank: lowest - (rank - skipped) * ROW for rank in range(len(drawing.rows))}
    ports = _ports(drawing)
    parts = []
    for upper, lower in drawing.links:
        x, y = left + ports[upper, lower, 0], tops[upper[1]]
        u, v = left + ports[upper, lower, 1], tops[lower[1]]
        bend = (v - y - HIGH) / 2
        tip = "" if ">" in lower[0] else ' marker-end="url(#tip)"'
        start = f"M{x:.0f} {y:.0f}V" if ">" in upper[0] else f"M{x:.0f} "
        parts.append(
            f'<path d="{start}{y + HIGH:.0f}C{x:.0f} {y + HIGH + bend:.0f} {u:.0f} '
            f'{v - bend:.0f} {u:.0f} {v:.0f}"{tip}/>'
        )
    for row in drawing.rows[skipped:]:
        for name, rank in row:
            if ">" not in name:
                parts += _box(source, package, name, left + drawing.at[name, rank], tops[rank])
    return parts


def _ports(drawing: Drawing) -> dict[tuple[Spot, Spot, int], float]:
    """Where a link leaves the upper spot (0) and reaches the lower one (1)."""
    found: dict[tuple[Spot, Spot, int], float] = {}
    for end in (0, 1):
        for spot in drawing.at:
            links = [link for link in drawing.links if link[end] == spot]
            links.sort(key=lambda link: drawing.at[link[1 - end]])
            for number, link in enumerate(links):
                aside = (number - (len(links) - 1) / 2) * WAY
                found[(*link, end)] = drawing.at[spot] + aside
                if spot == (BELOW, 0):  # the frame is as wide as the picture
                    found[(*link, end)] = drawing.at[link[0]]
    return found


def _box(source: Source, package: str, name: str, x: float, y: float) -> list[str]:
    module = name if name in source.files else f"{package}.{name}"
    path = source.files[module]
    shown = name if path.name == "__init__.py" else path.name
    return [
        f'<rect x="{x - BOX / 2:.0f}" y="{y:.0f}" width="{BOX}" height="{HIGH}" rx="5"/>',
        f'<text class="name" x="{x:.0f}" y="{y + 18:.0f}">{shown}</text>',
        f'<text x="{x:.0f}" y="{y + 33:.0f}">{escape(_caption(path.read_text("utf-8")))}</text>',
    ]


def _caption(text: str) -> str:
    """The first words of a docstring, as far as its first colon or full stop."""
    words = re.split(r"[:.](?:\s|$)", ast.get_docstring(ast.parse(text)) or "", maxsplit=1)[0]
    return shorten(words, 36, placeholder=" …")
