"""The section of a report that says what was learned, and what adaptation does with it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from metadist.report.charts import MOST_ROWS, bars, heat_map, ranges
from metadist.report.document import Card
from metadist.report.phrases import plural
from metadist.runs.readers.diagnostics import Caption, Diagnostics
from metadist.runs.readers.run_data import RunData

#: A quantity's numbers by name.
Found = Mapping[str, tuple[float, ...]]
#: Lower end, middle and upper end by name.
Triples = dict[str, tuple[float, float, float]]

#: Of quantities that runs have from before learners described them.
_DESCRIBED = {
    "step_size": Caption("Learned step sizes", ""),
    "transform": Caption(
        "Learned transforms T",
        "Bar: from the smallest to the largest singular value of each layer's T; at 1 only, T is "
        "the identity (up to a rotation) and the learner is MAML. The longer the bar, the more the "
        "inner loop prefers some directions (×: largest / smallest).",
    ),
    "curvature": Caption(
        "Learned curvature",
        "Bar: from the smallest to the largest singular value of each matrix; at 1 only, it is the "
        "identity (up to a rotation) and the step is MAML's. The longer the bar, the more the "
        "gradient is bent (×: largest / smallest).",
    ),
    "p_update": Caption(
        "p_update: share of units that an inner step changes",
        "p_update is σ(ζ), the probability of being updated: 0 is a frozen layer, 1 one that every "
        "task changes, ½ where it started. The paper's released code prints the complement under "
        "this description.",
    ),
}
#: Numbers that started at the recipe's ``inner.lr``, and what they are.
_RATES = {"step_size": "step size (parameter change per unit of gradient)"}


def learned_cards(data: RunData) -> list[Card]:
    """All figures of the section; none without anything to show."""
    if data.diagnostics is None:
        return []
    lr = data.recipe.inner.lr if data.recipe else math.nan
    return [*_findings(data.diagnostics, lr), *_behaviour(data.diagnostics)]


def _findings(found: Diagnostics, lr: float) -> Iterator[Card]:
    left = dict(found.learned_quantities)
    for quantity in found.learned_quantities:
        stem = quantity.rpartition("_")[0]
        both = (f"{stem}_smallest", f"{stem}_largest")
        three = (f"{stem}_min", f"{stem}_mean", f"{stem}_max")
        told = _caption(found, stem)
        if quantity == both[0] and both[1] in left:
            low, high = (left.pop(name) for name in both)
            yield _spectrum(stem, told, low, high)
        elif quantity == three[0] and set(three) <= left.keys():
            low, middle, high = (left.pop(name) for name in three)
            yield _spread(stem, told, _triples(low, middle, high), lr)
    for quantity, numbers in left.items():
        yield _plain(quantity, _caption(found, quantity), numbers, lr)


def _caption(found: Diagnostics, quantity: str) -> Caption:
    """What the learner says of a quantity; else its name, in words."""
    unknown = Caption(quantity.replace("_", " "), "")
    return found.captions.get(quantity) or _DESCRIBED.get(quantity) or unknown


def _name(quantity: str) -> str:
    """Of a quantity's figure: letters only."""
    return "found" + "".join(c for c in quantity.title() if c.isascii() and c.isalpha())


def _aid(told: Caption, marks: str, rows: int, started: str = "") -> str:
    """How a figure is read: as the learner says, else what its marks are."""
    return f"{told.text or marks}{started}{_more(rows)}"


def _triples(low: Found, middle: Found, high: Found) -> Triples:
    names = [n for n in low if n in middle and n in high]
    return {n: (min(low[n]), middle[n][0], max(high[n])) for n in names}


def _spectrum(stem: str, told: Caption, low: Found, high: Found) -> Card:
    rows = {n: (a, math.nan, c) for n, (a, _, c) in _triples(low, low, high).items()}
    title, x = f"{told.title}: spread of singular values", "singular value (logarithmic)"
    svg = ranges(_name(stem), title, x, rows, log=True, mark=(1.0, "identity"), ratio=True)
    marks = "Bar: from the smallest to the largest singular value."
    return Card(svg, _aid(told, marks, len(rows)))


def _spread(stem: str, told: Caption, rows: Triples, lr: float) -> Card:
    mark = (lr, f"inner.lr = {lr:g}") if stem in _RATES and math.isfinite(lr) else None
    x = _RATES.get(stem, stem.replace("_", " "))
    svg = ranges(_name(stem), f"{told.title} within each parameter", x, rows, mark=mark)
    marks = "Bar: from the smallest to the largest, dot: the mean."
    return Card(svg, _aid(told, marks, len(rows)))


def _plain(quantity: str, told: Caption, numbers: Found, lr: float) -> Card:
    """A quantity that stands for itself: a number to each name, or several."""
    rate = quantity in _RATES and math.isfinite(lr)
    started = f" They started at inner.lr = {lr:g}." if rate else ""
    name, rows = _name(quantity), len(numbers)
    if any(len(v) > 1 for v in numbers.values()):
        x = "adaptation step" if quantity in _RATES else "number"
        marks = "The stronger the colour the larger the number; red where it is negative."
        svg = heat_map(name, told.title, x, numbers)
        return Card(svg, _aid(told, marks, rows, started))
    values = {key: v[0] for key, v in numbers.items()}
    x = _RATES.get(quantity, quantity.replace("_", " "))
    finite = [0.0, *(v for v in values.values() if math.isfinite(v))]
    limits = (min(finite), max(finite)) if any(finite) else (0.0, 1.0)
    svg = bars(name, told.title, x, values, limits=limits, form="{:.3g}")
    return Card(svg, _aid(told, "What the learner reports of itself.", rows, started))


#: Said in the docstring of backbones.Output too.
_PLAIN = (
    "Of a network that is a module: of what each linear map itself puts out, before normalisation "
    "and non-linearity."
)


def _behaviour(found: Diagnostics) -> Iterator[Card]:
    """What adaptation changes, and whether tasks agree."""
    if found.similarity:
        steps = plural(found.adaptation_steps, "adaptation step")
        lost = _lost(found.failed_episodes, "episode", "an activation")
        yield Card(
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
            f"debiased). {_PLAIN}{lost}" + _more(len(found.similarity)),
        )
    if found.alignment:
        lost = _lost(found.failed_tasks, "task", "a gradient")
        everything = {"all": found.alignment["all"]} if "all" in found.alignment else {}
        yield Card(
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
