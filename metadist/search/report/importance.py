"""Which searched keys the score depends on, as far as the trials can tell.

PED-ANOVA (Watanabe et al., 2023), as Optuna has it: how differently a key's values are distributed
among the best trials and among all. Chance alone makes such a difference too, the more the fewer
trials there are; so it is set against what the same trials show with their scores shuffled.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from metadist.report.charts import bars
from metadist.search.report.data import SearchData
from metadist.space import Choice, Domain, Integers, LogUniform, Population, Uniform, When

#: Trials with a score below which nothing is said.
FEWEST = 8
#: Best trials that are compared with all, as the measure's authors advise.
_BEST = 5
#: With so many shuffles a key stands out by chance once in twenty times.
_SHUFFLES = 99
_CHANCE = 0.95


@dataclass(frozen=True)
class Importance:
    """How much the best trials differ from the others in a key.

    Attributes:
        share: of the sum over keys.
        clear: whether 95 of 100 searches with shuffled scores show less.
    """

    key: str
    share: float
    clear: bool


def importances(data: SearchData) -> list[Importance] | str:
    """The importance of every searched key, the greatest first, or why there is none."""
    scored = data.ranked()
    if len(data.space.search) < 2:
        return "One key is searched: there is nothing to compare it with."
    if isinstance(data.space.scheduler, Population):
        return "Not shown: the rates of a population change while it trains."
    if len(scored) < FEWEST:
        return (
            f"Not shown: {len(scored)} trials have a score, and below {FEWEST} such a measure is "
            "noise."
        )
    try:
        measure = _measure(data.space.search, [t.point for t in scored])
    except ImportError:
        return "Not shown: it needs Optuna, which is not installed (pip install 'metadist[tune]')."
    except (ValueError, KeyError, TypeError) as error:
        return f"Not shown: a trial does not fit the space ({error})."
    # Ranks: the measure knows no more of a score than whether it is among the best.
    ranks = np.arange(len(scored), dtype=np.float64)
    found = measure(ranks)
    total = sum(found.values())
    if not total > 0:
        return "Not shown: the best trials do not differ from the others in any key."
    random = np.random.Generator(np.random.Philox(0))
    shuffled = [measure(random.permutation(ranks)) for _ in range(_SHUFFLES)]
    result = []
    for key, value in found.items():
        chance = np.quantile([s.get(key, 0.0) for s in shuffled], _CHANCE)
        result.append(Importance(key, value / total, bool(value > chance)))
    return sorted(result, key=lambda i: -i.share)


def importance_figure(found: Sequence[Importance]) -> str:
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


def _measure(
    search: Mapping[str, Domain], points: Sequence[Mapping[str, Any]]
) -> Callable[[Any], dict[str, float]]:
    """A function from scores of the points (less is better) to a number for each key."""
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator

    search = {key: d.then if isinstance(d, When) else d for key, d in search.items()}
    distributions = {key: _distribution(domain) for key, domain in search.items()}
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    quantile = best_trials(len(points)) / len(points)
    # Optuna 4 has begun with one name and ends with the other.
    name = inspect.signature(PedAnovaImportanceEvaluator).parameters
    which = "target_quantile" if "target_quantile" in name else "baseline_quantile"
    how: dict[str, Any] = {which: quantile}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            evaluator = PedAnovaImportanceEvaluator(**how)
            study = optuna.create_study(direction="minimize")
            for point in points:
                params = {key: _clipped(search[key], value) for key, value in point.items()}
                kinds = {key: distributions[key] for key in point}
                study.add_trial(
                    optuna.trial.create_trial(params=params, distributions=kinds, value=0.0)
                )
    finally:
        optuna.logging.set_verbosity(level)

    def measure(scores: Any) -> dict[str, float]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that less is better
            return dict(evaluator.evaluate(study, target=lambda t: float(scores[t.number])))

    return measure


def _clipped(domain: Domain, value: Any) -> Any:
    """A value within its domain: the last point of a grid may be a rounding error beyond."""
    if isinstance(domain, Choice | When) or isinstance(value, bool | str):
        return value
    return min(max(value, domain.low), domain.high)


def _distribution(domain: Domain) -> Any:
    from optuna import distributions as d

    match domain:
        case LogUniform(low, high):
            return d.FloatDistribution(low, high, log=True)
        case Uniform(low, high):
            return d.FloatDistribution(low, high)
        case Integers(low, high, log):
            return d.IntDistribution(low, high, log=log)
        case Choice(values):
            return d.CategoricalDistribution(values)
    raise AssertionError(domain)
