"""What the spaces on the embedded characters share: base, budget, metric, scheduler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metadist.overrides import Scalar
from metadist.space import Asha, Domain, LogUniform, Space

#: Four decades each. The base takes the support loss as a sum over ways, as MAML's code does, which
#: makes its step sizes smaller by the number of ways.
INNER = LogUniform(1e-3, 10.0)
OUTER = LogUniform(1e-5, 1e-1)
RATES: dict[str, Domain] = {"inner.lr": INNER, "outer.lr": OUTER}
#: What is held of learners that compare: tasks of their recipes are larger than the others'.
METRIC: dict[str, Scalar] = {"outer.batch": 4}


def strokes(
    about: str,
    search: Mapping[str, Domain],
    fixed: Mapping[str, Scalar] | None = None,
    **changes: Any,
) -> Space:
    """A space on 5-way 1-shot strokes: a minute or two per trial that is not stopped.

    Args:
        fixed: beside smaller batches than the base's, which give more outer steps, and so more
            moments to stop at, in the same time.
        changes: of the space's other fields.
    """
    held: dict[str, Scalar] = {"outer.batch": 16, "eval.steps": 0, "eval.extra_queries": 0}
    space: dict[str, Any] = {
        "about": about,
        "base": "strokes-5w1s-maml",
        "search": search,
        "fixed": {**held, **(fixed or {})},
        "metric": "val/accuracy",
        "mode": "max",
        "steps": 240,
        "every": 30,
        "scheduler": Asha(),
    }
    return Space(**{**space, **changes})
