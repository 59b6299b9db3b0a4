"""Which searched keys the score depends on, as far as the trials can tell.

PED-ANOVA (Watanabe et al., 2023), as Optuna has it: how differently a key's values are distributed
among the best trials and among all. Chance alone makes such a difference too, the more the fewer
trials there are; so it is set against what the same trials show with their scores shuffled.
"""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import numpy as np
from optuna import Study
from optuna.importance import PedAnovaImportanceEvaluator

from metadist.report.charts import bars
from metadist.search.report.data import SearchData
from metadist.search.report.study import quiet
from metadist.space import Population

#: Trials with a score below which nothing is said.
FEWEST = 8
#: Best trials that are compared with all, as the measure's authors advise.
_BEST = 5
#: With so many shuffles a key stands out by chance once in twenty times.
_SHUFFLES = 99
_CHANCE = 0.95


class Importance(NamedTuple):
    """How much the best trials differ from the others in a key.

    Attributes:
        share: of the sum over keys.
        clear: whether 95 of 100 searches with shuffled scores show less.
    """

    key: str
    share: float
    clear: bool


def importances(data: SearchData, study: Study) -> list[Importance] | str:
    """The importance of every searched key, the greatest first, or why there is none.

    Args:
        study: the trials with a score, the best first.
    """
    scored = len(study.trials)
    if len(data.space.search) < 2:
        return "One key is searched: there is nothing to compare it with."
    if isinstance(data.space.scheduler, Population):
        return "Not shown: the rates of a population change while it trains."
    if scored < FEWEST:
        return (
            f"Not shown: {scored} trials have a score, and below {FEWEST} such a measure is noise."
        )
    # Optuna 4 has begun with one name and ends with the other.
    known = inspect.signature(PedAnovaImportanceEvaluator).parameters
    which = "target_quantile" if "target_quantile" in known else "baseline_quantile"
    how: dict[str, Any] = {which: best_trials(scored) / scored}
    with quiet():
        evaluator = PedAnovaImportanceEvaluator(**how)

        def measure(scores: Any) -> dict[str, float]:
            return evaluator.evaluate(study, target=lambda t: float(scores[t.number]))

        # Ranks: the measure knows no more of a score than whether it is among the best.
        ranks = np.arange(scored, dtype=np.float64)
        found = measure(ranks)
        random = np.random.Generator(np.random.Philox(0))
        shuffled = [measure(random.permutation(ranks)) for _ in range(_SHUFFLES)]
    if not (total := sum(found.values())) > 0:
        return "Not shown: the best trials do not differ from the others in any key."
    result = []
    for key, value in found.items():
        chance = np.quantile([s.get(key, 0.0) for s in shuffled], _CHANCE)
        result.append(Importance(key, value / total, bool(value > chance)))
    return sorted(result, key=lambda i: -i.share)


def importance_figure(found: list[Importance]) -> str:
    """A bar for each key."""
    return bars(
        "importance",
        "What sets the best trials apart",
        "share of the difference between the best trials and all, %",
        {i.key if i.clear else f"{i.key} (chance)": 100 * i.share for i in found},
        limits=(0.0, 100.0),
        form="{:.0f}",
    )


def best_trials(count: int) -> int:
    """How many of so many trials are compared with all of them."""
    return max(_BEST, count // 10)
