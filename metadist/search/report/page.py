"""The report of a search: what ``page.html.j2`` beside this shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from metadist.executors.optuna_search import is_installed
from metadist.report.document import Stat, page
from metadist.search.report.data import SearchData, TrialData, shown, value_text
from metadist.search.report.headline import found_section, lead, notes, stats
from metadist.search.report.progress import (
    LOOKS,
    budget,
    confirmed_curves,
    history,
    schedules,
    trial_curves,
)
from metadist.space import Domain, Population, When
from metadist.statistics.format import cut


def render(data: SearchData) -> str:
    """The report as text."""
    found = data.found
    winner = None if found is None else found.trial
    return page(
        "search/report/page.html.j2",
        data=data,
        lead=lead(data),
        headline=stats(data, found),
        remarks=notes(data, found),
        found=None if found is None else found_section(data, found),
        history=history(data),
        budget=budget(data),
        conditional=any(isinstance(domain, When) for domain in data.space.search.values()),
        population=isinstance(data.space.scheduler, Population),
        schedules=schedules(data, winner),
        values=_values(data, {} if found is None else found.point) if data.ranked() else None,
        trial_curves=trial_curves(data),
        confirmed_curves=confirmed_curves(data),
        spent=_spent(data),
        table_of_trials=_table(data, winner),
        winner=next((i for i, t in enumerate(data.trials) if t.number == winner), None),
        groups=_facts(data),
    )


def _values(data: SearchData, found: Mapping[str, Any]) -> str | dict[str, Any]:
    """Optuna's figures of the values that were tried and what is said of them, or why there are
    none."""
    if not is_installed():
        return "Not shown: it needs Optuna, which is not installed (pip install 'metadist[tune]')."
    from metadist.search.report import importance, landscape

    study = landscape.scored_study(data)
    if len(study.trials) < len(data.ranked()):
        return "Not shown: a trial does not fit the space."
    keys = landscape.plane_keys(data, study)
    plane, outside = landscape.plane(data, study, keys, found) if keys else ("", False)
    measured = importance.importances(data, study)
    shown = {"plane": plane, "outside": outside, "parallel": landscape.parallel(data, study)}
    if isinstance(measured, str):
        return {**shown, "importance": "", "why": measured}
    return {
        **shown,
        "importance": importance.importance_figure(measured),
        "best": importance.best_trials(len(study.trials)),
        "scored": len(study.trials),
        "missing": [key for key in data.space.search if key not in {i.key for i in measured}],
    }


def _spent(data: SearchData) -> list[Stat]:
    spent, full = sum(t.tasks for t in data.trials), sum(t.full_tasks for t in data.trials)
    counts = Counter(t.status for t in data.trials)
    ended = ", ".join(f"{counts[s]} {label}" for s, (label, _) in LOOKS.items() if counts[s])
    cards = [Stat(f"{len(data.trials):,}", "", ended)]
    cards.append(Stat(f"{spent:,}", "tasks", "spent on trials"))
    if full > 0:
        share = f"{100 * spent / full:.0f} %"
        cards.append(Stat(share, "", f"of the {full:,} tasks these trials would take in full"))
    if data.confirmed:
        tasks = sum(run.tasks for run in data.confirmed)
        cards.append(Stat(f"{tasks:,}", "tasks", "besides, to train the choice anew"))
    return cards


def _table(data: SearchData, winner: int | None) -> list[list[str]]:
    ranks = {t.number: str(rank) for rank, t in enumerate(data.ranked(), 1)}
    errors = any(t.error for t in data.trials)
    names = ["trial", *data.space.search, data.metric.title, "rank", "best step", "steps", "tasks"]
    rows = [[*names, "status", *(["error"] if errors else [])]]
    for trial in data.trials:
        row = _row(data, trial, ranks.get(trial.number, ""), chosen=trial.number == winner)
        rows.append(row + ([cut(trial.error, 120)] if errors else []))
    return rows


def _row(data: SearchData, trial: TrialData, rank: str, *, chosen: bool) -> list[str]:
    scored = trial.score is not None
    return [
        f"{trial.number}{' ◂ found' if chosen else ''}",
        *(shown(trial.point, key) for key in data.space.search),
        data.shown(trial.score) if trial.score is not None else "none",
        rank,
        f"{trial.best_step:,}" if scored else "",
        f"{trial.steps:,}",
        f"{trial.tasks:,}",
        trial.status,
    ]


def _facts(data: SearchData) -> dict[str, Mapping[str, str]]:
    space = data.space
    scheduler = "none: every trial is trained in full"
    if space.scheduler is not None:
        scheduler = _words(vars(space.scheduler))
    held = {key: value_text(value) for key, value in space.fixed.items()}
    overrides = (text.partition("=") for text in data.plan.overrides)
    return {
        "Search": {
            "created": data.created,
            "space": data.plan.name,
            "base recipe": space.base,
            "metric": f"{space.metric}, {'more' if space.mode == 'max' else 'less'} is better",
            "trials": f"{len(data.trials):,} of {data.plan.trials:,}",
            "outer steps": f"{space.steps:,}, validated every {space.every:,}",
            "searcher": f"{space.searcher}, seed {data.plan.seed}",
            "scheduler": scheduler,
        },
        "Domains": {key: _domain(domain) for key, domain in space.search.items()},
        "Held at other values than the base's": held
        | {f"--set {key}": value for key, _, value in overrides},
    }


def _domain(domain: Domain) -> str:
    if isinstance(domain, When):
        values = " or ".join(value_text(v) for v in domain.values)
        return f"{_domain(domain.then)}, where {domain.key} is {values}"
    return _words(vars(domain))


def _words(part: Mapping[str, Any]) -> str:
    told = []
    for name, value in part.items():
        if name == "kind":
            continue
        many = isinstance(value, list | tuple)
        text = ", ".join(value_text(v) for v in value) if many else value_text(value)
        told.append(text if name == "values" else f"{name} {text}")
    return f"{part['kind']}: {', '.join(told)}"
