"""The report of a search: one HTML file that needs nothing else, with all text escaped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from html import escape
from typing import Any

from metadist.report.document import document, figure, stat, table
from metadist.report.phrases import plural
from metadist.search.report.data import SearchData, TrialData, cut, shown, value_text
from metadist.search.report.headline import found_section, header, notes
from metadist.search.report.heatmap import cell_map, default_is_outside, plane
from metadist.search.report.importance import best_trials, importance_figure, importances
from metadist.search.report.parallel import parallel
from metadist.search.report.progress import budget, confirmed_curves, history, trial_curves
from metadist.search.report.rates import schedules
from metadist.search.report.result_schema import Found, read_found
from metadist.search.report.trial_markers import LABELS, STATUSES
from metadist.space import Domain, Population, When

#: Rows of the table that are shown without being asked for.
_OPEN = 40


def render(data: SearchData) -> str:
    """The report as text."""
    found: Found | None = None
    if data.result is not None:
        try:
            found = read_found(data.result)
        except ValueError as error:
            text = f"The result in search.json cannot be read: {error}."
            data = replace(data, notes=[*data.notes, text])
    sections = [
        header(data, found),
        notes(data, found),
        found_section(data, found),
        _trials(data, found),
        _schedules(data, found),
        _space(data, found),
        _curves(data),
        _budget(data),
        _table(data, found),
        _facts(data),
        "<footer>Written by metadist from the directory of the search alone. Intervals are 95 % "
        "confidence intervals.</footer>",
    ]
    return document(f"{data.name} · metadist report", "".join(sections))


def _trials(data: SearchData, found: Found | None) -> str:
    title = "<h2>Trials</h2>"
    if not data.trials:
        return f"{title}<p>No trial has begun.</p>"
    cards = figure(
        history(data),
        "Scores are the best of each trial on the validation episodes that all trials share.",
    )
    if svg := budget(data):
        told = "Trials at once share the axis: every validation counts when it came."
        cards += figure(svg, told)
    line = parallel(data, None if found is None else found.trial)
    lines = (
        "Each line is a trial; scores at the right, the better the higher. A trial without a score "
        f"ends in a cross.{_first_rates(data)}"
    )
    wide = f'<div class="scroll wide">{line}</div>'
    if any(isinstance(domain, When) for domain in data.space.search.values()):
        lines += " Below: the key does not count in this trial."
    return (
        f'{title}<div class="grid halves">{cards}</div>'
        f'<div class="below">{figure(wide, lines)}</div>\n'
    )


def _space(data: SearchData, found: Found | None) -> str:
    """The plane of two keys, and which keys matter."""
    if not data.ranked():
        return ""
    cells = cell_map(data)
    cards = ""
    if cells is not None and cells.cells:
        told = (
            "Each cell: the best score of the trials in it, not their mean"
            + (", which are those of a grid" if cells.exact else "")
            + (", whatever their other values" if len(data.space.search) > 2 else "")
            + ". The stronger the colour, the better. Filled points finished, hollow ones were "
            f"stopped early.{_first_rates(data)}"
            + (" The default lies outside." if default_is_outside(data, cells) else "")
        )
        cards = figure(plane(data, cells, found.point if found else None), told)
    return _halves("Where the good values are", cards + _importance(data))


def _halves(title: str, cards: str) -> str:
    """A section of cards, two in a row."""
    return f'<h2>{title}</h2><div class="grid halves">{cards}</div>\n'


def _first_rates(data: SearchData) -> str:
    population = isinstance(data.space.scheduler, Population)
    return " Rates are those that the run has begun with." if population else ""


def _schedules(data: SearchData, found: Found | None) -> str:
    told = (
        "A population takes over runs and changes rates while it trains; each line is the schedule "
        "that has led to a member's parameters."
    )
    figures = schedules(data, None if found is None else found.trial)
    cards = "".join(figure(svg, told) for svg in figures)
    return _halves("Schedules", cards) if cards else ""


def _importance(data: SearchData) -> str:
    found = importances(data)
    if isinstance(found, str):
        return (
            f'<section class="card"><h3>Importance of the keys</h3><p>{escape(found)}</p></section>'
        )
    scored = len(data.ranked())
    told = (
        f"PED-ANOVA: how differently the values are spread among the best {best_trials(scored)} of "
        f"{scored} trials and among all. “Chance”: with the scores shuffled among the trials "
        "it is as large in more than 1 of 20 cases. A hint, no measurement: trials are few, those "
        "stopped early are judged by less training, a searcher's trials are not independent, and "
        "keys that matter only together are not seen."
    )
    missing = [key for key in data.space.search if key not in {i.key for i in found}]
    if missing:
        told += f" Not measured, as not every trial has them: {', '.join(missing)}."
    return figure(importance_figure(found), told)


def _curves(data: SearchData) -> str:
    cards = ""
    if trials := trial_curves(data):
        cards += figure(trials, "In colours the best trials by their score in the search.")
    if anew := confirmed_curves(data):
        seeds = ", ".join(map(str, sorted({run.seed for run in data.confirmed})))
        cards += figure(anew, f"Each line is a run; seeds {seeds}, which no trial has had.")
    return _halves("Validation curves", cards) if cards else ""


def _budget(data: SearchData) -> str:
    if not data.trials:
        return ""
    spent, full = sum(t.tasks for t in data.trials), sum(t.full_tasks for t in data.trials)
    counts = Counter(t.status for t in data.trials)
    ended = ", ".join(f"{counts[s]} {LABELS[s]}" for s in STATUSES if counts[s])
    cards = [stat(f"{len(data.trials):,}", "", ended)]
    cards.append(stat(f"{spent:,}", "tasks", "spent on trials"))
    if full > 0:
        share = f"{100 * spent / full:.0f} %"
        cards.append(stat(share, "", f"of the {full:,} tasks these trials would take in full"))
    if data.confirmed:
        tasks = sum(run.tasks for run in data.confirmed)
        cards.append(stat(f"{tasks:,}", "tasks", "besides, to train the choice anew"))
    return f'<h2>Budget</h2><div class="stats">{"".join(cards)}</div>\n'


def _table(data: SearchData, found: Found | None) -> str:
    if not data.trials:
        return ""
    ranks = {t.number: str(rank) for rank, t in enumerate(data.ranked(), 1)}
    errors = any(t.error for t in data.trials)
    names = ["trial", *data.space.search, data.metric.title, "rank", "best step", "steps", "tasks"]
    names += ["status", *(["error"] if errors else [])]
    winner = next((i for i, t in enumerate(data.trials) if found and t.number == found.trial), None)
    rows = [
        _row(data, trial, ranks.get(trial.number, ""), chosen=i == winner)
        + ([cut(trial.error, 120)] if errors else [])
        for i, trial in enumerate(data.trials)
    ]
    opened = " open" if len(rows) <= _OPEN else ""
    return (
        f'<h2>All trials</h2><details class="card"{opened}>'
        f"<summary>{plural(len(rows), 'trial')}</summary>{table(names, rows, chosen=winner)}"
        "</details>\n"
    )


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


def _facts(data: SearchData) -> str:
    space = data.space
    scheduler = "none: every trial is trained in full"
    if space.scheduler is not None:
        scheduler = _words(vars(space.scheduler))
    facts: dict[str, Any] = {
        "created": data.created,
        "space": data.plan.name,
        "base recipe": space.base,
        "metric": f"{space.metric}, {'more' if space.mode == 'max' else 'less'} is better",
        "trials": f"{len(data.trials):,} of {data.plan.trials:,}",
        "outer steps": f"{space.steps:,}, validated every {space.every:,}",
        "searcher": f"{space.searcher}, seed {data.plan.seed}",
        "scheduler": scheduler,
    }
    domains = {key: _domain(domain) for key, domain in space.search.items()}
    held = {key: value_text(value) for key, value in space.fixed.items()}
    overrides = (text.partition("=") for text in data.plan.overrides)
    held |= {f"--set {key}": value for key, _, value in overrides}
    cards = _card("Search", facts) + _card("Domains", domains)
    cards += _card("Held at other values than the base's", held) if held else ""
    return f'<h2>Facts</h2><div class="facts">{cards}</div>\n'


def _card(title: str, facts: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in facts.items()
    )
    return f'<section class="card"><h3>{escape(title)}</h3><dl>{rows}</dl></section>'


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
