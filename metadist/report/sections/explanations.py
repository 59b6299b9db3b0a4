"""What predictions rest on: maps of features, attention over the support set, graphs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from metadist.report.curves import COLORS
from metadist.report.document import Card
from metadist.report.figures import below
from metadist.report.phrases import plural
from metadist.report.sections.episodes import EPISODES, label
from metadist.report.svg import CARD, FG, MAIN, MUTED, drawing
from metadist.runs.readers.run_data import Arrays
from metadist.statistics.format import percent

Floats = NDArray[np.float64]

#: Episodes whose attention, and whose graphs are drawn; panels side by side.
_READ, _GRAPHS, _PANELS = 2, 1, 3
#: Columns that a matrix may have; where there are more, those of a class are added.
_MOST_COLUMNS = 30
#: More classes than this share colours, so that their queries are letters.
_COLORED = len(COLORS)


def explanation_cards(examples: Arrays, trained_steps: int) -> list[Card]:
    """All pictures; none of a learner that tells nothing.

    Raises:
        ValueError, IndexError, KeyError: the arrays do not belong together.
    """
    if "map.query" not in examples:
        return []
    episodes = [Episode(examples, row, trained_steps) for row in range(len(examples["ids"]))]
    shown = episodes[:EPISODES]
    return [
        *(_map(one) for one in shown if one.whole),
        *_matrices(shown[:_READ], "attention", "what queries read of the support set"),
        *_matrices(shown[:_GRAPHS], "adjacency", "the learned graph of a query"),
    ]


@dataclass(frozen=True)
class Episode:
    """One of the example episodes."""

    examples: Arrays
    row: int
    trained_steps: int

    def of(self, name: str) -> Floats:
        """Its part of an array."""
        found: Floats = self.examples[name][self.row].astype(np.float64)
        return found

    @property
    def title(self) -> str:
        """What it is called."""
        return f"Test episode {int(self.examples['ids'][self.row])}"

    @property
    def ways(self) -> int:
        """Classes of a task."""
        return int(self.examples["outputs"].shape[-1])

    @property
    def support(self) -> NDArray[np.int64]:
        """Classes of the examples that were learned from; of those without a label the ways."""
        known = self.examples["support_y"][self.row].astype(np.int64)
        unlabeled = len(self.examples["map.support"][self.row]) - len(known)
        return np.concatenate([known, np.full(unlabeled, self.ways)])

    @property
    def truth(self) -> NDArray[np.int64]:
        """Classes of the queries."""
        found: NDArray[np.int64] = self.examples["query_y"][self.row].astype(np.int64)
        return found

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether each query is told right."""
        outputs = self.of("outputs")
        outputs = outputs[min(self.trained_steps, len(outputs) - 1)]
        finite = np.isfinite(outputs).all(-1)
        found: NDArray[np.bool_] = (outputs.argmax(-1) == self.truth) & finite
        return found

    @property
    def whole(self) -> bool:
        """Whether its map can be drawn."""
        return bool(np.isfinite(self.of("map.shares")).all())

    def named(self, prefix: str) -> dict[str, Floats]:
        """Its parts of all arrays ``<prefix>.<name>``, by name."""
        names = [name for name in self.examples if name.startswith(f"{prefix}.")]
        return {name.removeprefix(f"{prefix}."): self.of(name) for name in sorted(names)}


# --- maps -----------------------------------------------------------------------------------------


def _color(way: int, ways: int) -> str:
    return COLORS[way % _COLORED] if way < ways else MUTED


def _map(of: Episode) -> Card:
    title = f"{of.title}: features"
    with drawing(f"map{of.row}", title, size=(6.2, 4.6)) as figure:
        axes = figure.axes(title)
        _queries(axes, of)
        prototypes = of.of("map.prototypes") if "map.prototypes" in of.examples else None
        if prototypes is not None:
            for way, at in enumerate(prototypes):
                axes.plot(
                    *at, marker="D", markersize=15, linestyle="", markerfacecolor="none",
                    markeredgecolor=_color(way, of.ways), markeredgewidth=1.4, zorder=4,
                )  # fmt: skip
        for way, at in zip(of.support, of.of("map.support"), strict=True):
            known = way < of.ways
            axes.plot(
                *at, marker="o" if known else "s", markersize=10.5 if known else 5, linestyle="",
                markerfacecolor=CARD if known else "none", markeredgecolor=_color(way, of.ways),
                markeredgewidth=1.6, zorder=5 if known else 3,
            )  # fmt: skip
            if known:
                axes.annotate(
                    label(int(way)), at, ha="center", va="center", fontsize=7.5, color=FG,
                    fontweight="bold", zorder=6,
                )  # fmt: skip
        _legend(axes, of, prototypes is not None)
        first, second = (percent(share, 0) for share in of.of("map.shares"))
        axes.set_xlabel(f"first principal axis ({first} of the variance)")
        axes.set_ylabel(f"second ({second})")
        axes.set_aspect("equal", adjustable="datalim")
        axes.margins(0.09)
        axes.grid(visible=True, axis="both")
        below(axes)
    wrong, shares = int((~of.right).sum()), float(of.of("map.shares").sum())
    told = f"{wrong or 'None'} of {plural(len(of.right), 'query')} told wrong; "
    return Card(figure.svg, f"{told}{percent(shares, 0)} of the variance is shown.")


def _queries(axes: Axes, of: Episode) -> None:
    points = of.of("map.query")
    for way, right, at in zip(of.truth, of.right, points, strict=True):
        color = _color(int(way), of.ways)
        if of.ways <= _COLORED:
            size = 5.0 if right else 7.0
            look: dict[str, Any] = {
                "marker": "o" if right else "x",
                "markersize": size,
                "color": color,
            }
            axes.plot(*at, linestyle="", alpha=0.75 if right else 1.0, markeredgewidth=1.5, **look)
            continue
        axes.plot(*at, linestyle="", marker="", color=color)  # for the limits
        axes.annotate(
            label(int(way)), at, ha="center", va="center", fontsize=8.0, color=color,
            fontweight="normal" if right else "bold", fontstyle="normal" if right else "italic",
        )  # fmt: skip


def _legend(axes: Axes, of: Episode, prototypes: bool) -> None:
    looks: dict[str, dict[str, Any]] = {
        "support": {"marker": "o", "markersize": 9.0, "markerfacecolor": CARD},
        "without a label": {"marker": "s", "markersize": 5.0, "markerfacecolor": "none"},
        "prototype": {"marker": "D", "markersize": 9.0, "markerfacecolor": "none"},
        "query told right": {"marker": "o", "markersize": 5.0, "markerfacecolor": MUTED},
        "query told wrong": {"marker": "x", "markersize": 7.0, "markerfacecolor": MUTED},
    }
    absent = [] if prototypes else ["prototype"]
    absent += [] if (of.support == of.ways).any() else ["without a label"]
    if of.ways > _COLORED:
        absent += ["query told right", "query told wrong"]
    elif of.right.all():
        absent.append("query told wrong")
    for name, look in looks.items():
        if name not in absent:
            how: dict[str, Any] = {
                "linestyle": "",
                "markeredgecolor": MUTED,
                "color": MUTED,
                **look,
            }
            axes.plot([], [], label=name, **how)


# --- matrices -------------------------------------------------------------------------------------


def _matrices(shown: Sequence[Episode], kind: str, title: str) -> Iterator[Card]:
    """A card for each episode, with a panel for each matrix of this kind."""
    for of in shown:
        panels = dict(islice(of.named(kind).items(), _PANELS))
        panels = {name: m for name, m in panels.items() if m.size and np.isfinite(m).all()}
        if panels:
            yield _card(of, kind, title, panels)


def _card(of: Episode, kind: str, title: str, panels: Mapping[str, Floats]) -> Card:
    told = f"{of.title}: {title}"
    kept = of.examples["rows"][of.row]
    order = np.argsort(of.truth[kept], kind="stable")
    shown = kept[order]
    of_rows = zip(of.truth[shown], of.right[shown], strict=True)
    rows = [f"{label(int(way))}{'' if right else ' ✗'}" for way, right in of_rows]
    columns, groups = _columns(of, graph=kind == "adjacency")
    matrices = {name: _grouped(matrix, groups) for name, matrix in panels.items()}
    if kind == "attention":
        matrices = {name: matrix[order] for name, matrix in matrices.items()}
    if kind == "adjacency":
        matrices = {n: _grouped(m.T, groups, mean=True).T for n, m in matrices.items()}
        rows = columns
    several = len(panels) > 1
    size = (12.6 if several else 6.2, min(max(2.6, 1.3 + 0.2 * len(rows)), 7.0))
    with drawing(f"{kind}{of.row}", told, size=size, columns=len(panels)) as figure:
        for axes, (name, matrix) in zip(figure.figure.axes, matrices.items(), strict=True):
            _matrix(axes, matrix, rows, columns)
            axes.set_title(name if several else told)
        if several:
            figure.figure.suptitle(told, x=0.0, ha="left", fontsize=10.5, fontweight="bold")
    return Card(figure.svg, _aid(of, kind, panels), several)


def _aid(of: Episode, kind: str, panels: Mapping[str, Floats]) -> str:
    each = "all of a class together" if len(of.support) > _MOST_COLUMNS else "one by one"
    how = f"columns: the examples that were learned from, {each}. The darker, the more is read"
    letters = "Letters: true classes" + (", –: no label" if (of.support == of.ways).any() else "")
    if kind == "adjacency":
        who = "Rows: the vertices of the graph of the first query; columns: of whom they hear."
        return f"{who} {letters}, ?: the query. All rows sum to 1."
    least = min(float(matrix.sum(1).min()) for matrix in panels.values())
    rest = "; what is lacking to 1 is of the query itself" if least < 0.999 else ""
    return f"Rows: queries (✗: told wrong); {how}{rest}. {letters}."


def _columns(of: Episode, *, graph: bool) -> tuple[list[str], list[NDArray[np.int64]]]:
    """Names of the columns, and which examples each is made of: classes stand together."""
    ways = [*range(of.ways), of.ways]
    members = [np.flatnonzero(of.support == way) for way in ways]
    names = [*(label(way) for way in range(of.ways)), "–"]
    if len(of.support) <= _MOST_COLUMNS:
        named = zip(names, members, strict=True)
        pairs = [(n, np.array([one])) for n, rows in named for one in rows.tolist()]
    else:
        pairs = [(n, rows) for n, rows in zip(names, members, strict=True) if len(rows)]
    if graph:
        pairs.append(("?", np.array([len(of.support)])))
    return [name for name, _ in pairs], [rows for _, rows in pairs]


def _grouped(matrix: Floats, groups: Sequence[NDArray[np.int64]], *, mean: bool = False) -> Floats:
    """Sums, or means, over groups of columns."""
    parts = [matrix[:, rows] for rows in groups]
    return np.stack([part.mean(1) if mean else part.sum(1) for part in parts], 1)


def _matrix(axes: Axes, matrix: Floats, rows: Sequence[str], columns: Sequence[str]) -> None:
    """A cell for each number, the darker the nearer to the largest."""
    largest = float(np.abs(matrix).max()) or 1.0
    for (row, column), value in np.ndenumerate(matrix):
        alpha = 0.03 + 0.92 * float(np.clip(value / largest, 0.0, 1.0))
        corner = (column - 0.48, row - 0.47)
        axes.add_patch(Rectangle(corner, 0.96, 0.94, facecolor=MAIN, alpha=alpha, linewidth=0))
    small = {"labelsize": 7.5 if max(matrix.shape) > 20 else 9.0, "labelcolor": FG, "length": 0.0}
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(axis="both", **small)
    axes.xaxis.tick_top()
    axes.set_xlim(-0.55, len(columns) - 0.45)
    axes.set_ylim(len(rows) - 0.45, -0.55)
    axes.set_xlabel(f"darkest: {largest:.2f}")
    axes.xaxis.set_label_position("bottom")
    axes.grid(visible=False)
    for side in axes.spines.values():
        side.set_visible(False)
