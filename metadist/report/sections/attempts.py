"""What became of a run that did not go through in one go: its steps and workers over time."""

from __future__ import annotations

from matplotlib.ticker import MaxNLocator

from metadist.report.document import Card
from metadist.report.phrases import plural
from metadist.report.svg import BAD, MAIN, SECOND, drawing
from metadist.runs.readers.run_data import RunData

_READING = (
    "Left: outer steps done; flat is time in which nothing was gained, marked where an attempt "
    "began. Right: the workers of each attempt."
)
#: Seconds of a unit, and what it is called.
_UNITS = ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))


def attempts_card(data: RunData) -> Card | None:
    """None if the run had one attempt, or one that came to a step."""
    spans = [s for s in data.spans if s.began is not None and s.ended is not None]
    points = sorted((p.time, p.step) for p in data.series.get("train/loss", []))
    if len(spans) < 2 or not points:
        return None
    start = min(points[0][0], *(s.began for s in spans if s.began is not None))
    end = max(points[-1][0], *(s.ended for s in spans if s.ended is not None))
    seconds, unit = next(
        ((s, name) for s, name in _UNITS if (end - start) / 1000 >= 2 * s), _UNITS[-1]
    )
    lost = sum(s.lost or 0.0 for s in spans)
    redone = sum(s.redone for s in spans)

    def since(time: int | None) -> float:
        return ((time or start) - start) / 1000 / seconds

    alt = f"Outer steps and workers over {unit}, {len(spans)} attempts"
    with drawing("attempts", alt, size=(12.6, 3.0), columns=2) as drawn:
        left, right = drawn.figure.axes
        left.set_title("Outer steps done")
        stride = max(1, len(points) // 400)
        shown = [*points[:-1:stride], points[-1]]
        left.plot([since(t) for t, _ in shown], [step for _, step in shown], color=MAIN)
        for span in spans[1:]:
            left.axvline(since(span.began), color=BAD, linewidth=0.9, linestyle="--")
        left.set_ylim(bottom=0)
        right.set_title("Workers")
        for span in spans:
            x = [since(span.began), since(span.ended)]
            right.plot(x, [span.world_size] * 2, color=SECOND, linewidth=4)
            right.fill_between(x, [span.world_size] * 2, color=SECOND, alpha=0.2, linewidth=0)
        right.set_ylim(0, max(s.world_size for s in spans) * 1.15)
        for axes in (left, right):
            axes.set_xlabel(f"{unit} since the first step")
            axes.set_xlim(0, max(since(end), 1e-9))
            axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    told = (
        f"{_READING} {plural(len(spans) - 1, 'restart')}, {plural(redone, 'step')} done twice, "
        f"{lost:,.0f} seconds from the last point of an attempt to the next new step."
    )
    return Card(drawn.svg, told)
