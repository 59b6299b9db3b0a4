"""The section of a report that says what was learned, and what adaptation does with it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from metadist.report.charts import MOST_ROWS, bars, heat_map, ranges
from metadist.report.document import figure
from metadist.report.phrases import plural
from metadist.runs.readers.diagnostics import Diagnostics
from metadist.runs.readers.run_data import RunData

#: A quantity's numbers by name.
Found = Mapping[str, tuple[float, ...]]
#: A figure and the sentences that say how to read it.
Card = tuple[str, str]

_TITLES = {
    "step_size": "Learned step sizes",
    "transform": "Learned transforms T",
    "curvature": "Learned curvature",
}
_STEP_SIZE = "step size (parameter change per unit of gradient)"
_RANGES = {
    "step_size": "Bar: from the smallest to the largest step size within a parameter, dot: their "
    "mean; below 0 the inner loop climbs its loss.",
    "transform": "Bar: from the smallest to the largest singular value of each layer's T; at 1 "
    "only, T is the identity (up to a rotation) and the learner is MAML. The longer the bar, the "
    "more the inner loop prefers some directions (×: largest / smallest).",
    "curvature": "Bar: from the smallest to the largest singular value of each matrix; at 1 only, "
    "it is the identity (up to a rotation) and the step is MAML's. The longer the bar, the more "
    "the gradient is bent (×: largest / smallest).",
}


def learned_section(data: RunData) -> str:
    """The whole section; empty without anything to show."""
    if data.diagnostics is None:
        return ""
    lr = data.recipe.inner.lr if data.recipe else math.nan
    cards = [*_findings(data.diagnostics, lr), *_behaviour(data.diagnostics)]
    if not cards:
        return ""
    drawn = "".join(figure(svg, text) for svg, text in cards)
    return f'<h2>What was learned</h2><div class="learned">{drawn}</div>\n'


def _findings(found: Diagnostics, lr: float) -> Iterator[Card]:
    left = dict(found.learned_quantities)
    for quantity in found.learned_quantities:
        stem = quantity.rpartition("_")[0]
        both = (f"{stem}_smallest", f"{stem}_largest")
        three = (f"{stem}_min", f"{stem}_mean", f"{stem}_max")
        if quantity == both[0] and both[1] in left:
            low, high = (left.pop(name) for name in both)
            yield _spectrum(stem, low, high)
        elif quantity == three[0] and set(three) <= left.keys():
            low, middle, high = (left.pop(name) for name in three)
            yield _spread(stem, low, middle, high, lr)
    for quantity, numbers in left.items():
        if quantity == "p_update":
            yield _probabilities(numbers)
        elif quantity == "step_size":
            yield _step_sizes(numbers, lr)
        else:
            yield _plain(quantity, numbers)


def _name(quantity: str) -> str:
    """Of a quantity's figure: letters only."""
    return "found" + "".join(c for c in quantity.title() if c.isascii() and c.isalpha())


def _title(quantity: str) -> str:
    return _TITLES.get(quantity, quantity.replace("_", " "))


def _triples(low: Found, middle: Found, high: Found) -> dict[str, tuple[float, float, float]]:
    names = [n for n in low if n in middle and n in high]
    return {n: (min(low[n]), middle[n][0], max(high[n])) for n in names}


def _spectrum(stem: str, low: Found, high: Found) -> Card:
    rows = {n: (a, math.nan, c) for n, (a, _, c) in _triples(low, low, high).items()}
    title, x = f"{_title(stem)}: spread of singular values", "singular value (logarithmic)"
    svg = ranges(_name(stem), title, x, rows, log=True, mark=(1.0, "identity"), ratio=True)
    aid = _RANGES.get(stem, "Bar: from the smallest to the largest singular value.")
    return svg, aid + _more(len(rows))


def _spread(stem: str, low: Found, middle: Found, high: Found, lr: float) -> Card:
    rows = _triples(low, middle, high)
    steps = stem == "step_size" and math.isfinite(lr)
    x = _STEP_SIZE if steps else stem.replace("_", " ")
    mark = (lr, f"inner.lr = {lr:g}") if steps else None
    svg = ranges(_name(stem), f"{_title(stem)} within each parameter", x, rows, mark=mark)
    aid = _RANGES.get(stem, "Bar: from the smallest to the largest number, dot: the mean.")
    return svg, aid + _more(len(rows))


def _probabilities(numbers: Found) -> Card:
    svg = bars(
        _name("p_update"),
        "p_update: share of units that an inner step changes",
        "p_update = σ(ζ), mean over the layer (probability)",
        {name: v[0] for name, v in numbers.items()},
        limits=(0.0, 1.0),
        mark=(0.5, "ζ = 0"),
    )
    return svg, (
        "p_update is σ(ζ), the probability of being updated: 0 is a frozen layer, 1 one that every "
        "task changes, ½ where it started. The paper's released code prints the complement under "
        "this description." + _more(len(numbers))
    )


def _step_sizes(numbers: Found, lr: float) -> Card:
    """One for each parameter, or for each parameter and step."""
    started = f" They started at inner.lr = {lr:g}." if math.isfinite(lr) else ""
    name, title = _name("step_size"), _TITLES["step_size"]
    if all(len(v) == 1 for v in numbers.values()):
        values = {key: v[0] for key, v in numbers.items()}
        svg = bars(name, title, _STEP_SIZE, values, limits=_limits(values), form="{:.3g}")
        aid = "Below 0 the inner loop climbs its loss."
    else:
        svg = heat_map(name, f"{title} by parameter and step", "adaptation step", numbers)
        aid = (
            f"Numbers: {_STEP_SIZE}; the stronger the colour the larger, red where the step climbs "
            "its loss. Steps beyond the last take the last one's."
        )
    return svg, aid + started + _more(len(numbers))


def _plain(quantity: str, numbers: Found) -> Card:
    """A quantity that stands for itself."""
    name, title = _name(quantity), _title(quantity)
    if any(len(v) > 1 for v in numbers.values()):
        aid = "The stronger the colour the larger the number; red where it is negative."
        return heat_map(name, title, "number", numbers), aid + _more(len(numbers))
    values = {key: v[0] for key, v in numbers.items()}
    svg = bars(name, title, title, values, limits=_limits(values), form="{:.3g}")
    return svg, "What the learner reports of itself." + _more(len(numbers))


def _limits(values: Mapping[str, float]) -> tuple[float, float]:
    """An axis for bars from 0."""
    finite = [0.0, *(v for v in values.values() if math.isfinite(v))]
    return (min(finite), max(finite)) if any(finite) else (0.0, 1.0)


def _behaviour(found: Diagnostics) -> Iterator[Card]:
    """What adaptation changes, and whether tasks agree."""
    if found.similarity:
        steps = plural(found.adaptation_steps, "adaptation step")
        lost = _lost(found.failed_episodes, "episode", "an activation")
        yield (
            bars(
                "similarity",
                "What adaptation leaves as it was",
                f"linear CKA of activations before and after {steps}",
                found.similarity,
                limits=(0.0, 1.0),
                form="{:.3f}",
            ),
            "1: adaptation reuses the layer's representation as it is; the lower, the more it "
            f"changes what the layer says of the queries (of {found.episodes} test episodes, "
            f"debiased).{lost}" + _more(len(found.similarity)),
        )
    if found.alignment:
        lost = _lost(found.failed_tasks, "task", "a gradient")
        everything = {"all": found.alignment["all"]} if "all" in found.alignment else {}
        yield (
            bars(
                "alignment",
                "Do training tasks pull together?",
                "mean cosine between the tasks' meta-gradients",
                everything | found.alignment,
                limits=(0.0, 0.2),
                first="all",
            ),
            "Near 1 tasks agree, and more of them per outer step add little; near 0 each pulls in "
            f"a direction of its own; below 0 they work against each other ({found.tasks} training "
            f"tasks).{lost}" + _more(len(found.alignment)),
        )


def _lost(failed: int, what: str, because: str) -> str:
    return f" {plural(failed, what)} left out: {because} was not finite." if failed else ""


def _more(rows: int) -> str:
    beyond = rows - MOST_ROWS
    return f" {beyond:,} more in evaluation/diagnostics.json." if beyond > 0 else ""
