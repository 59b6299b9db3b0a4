"""What was found: the figures at the head of the page, and what one has to know beside them."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from html import escape
from typing import Any

from metadist.report.document import note, stat
from metadist.report.phrases import plural
from metadist.search.report.data import SearchData, value_text
from metadist.search.report.result_schema import Estimate, Found, Rival
from metadist.search.report.scales import key_axes
from metadist.statistics.classes import few_classes, of_classes
from metadist.statistics.format import mean_ci, number, score_ci
from metadist.statistics.paired import Paired

_STATUS = {
    "running": "This search is not finished.",
    "interrupted": "This search was interrupted.",
    "failed": "This search ended early.",
}
#: Nearer to an end of a domain than this share of it, what is best may lie beyond.
_EDGE = 0.03


def header(data: SearchData, found: Found | None) -> str:
    """Title, what was searched, and the main figures."""
    space = data.space
    who = {"tpe": "TPE", "random": "random search", "grid": "grid search"}[space.searcher]
    lead = (
        f"{plural(len(space.search), 'hyper-parameter')} of {space.base}, {who}, "
        f"{len(data.trials):,} of {plural(data.plan.trials, 'trial')} of "
        f"{plural(space.steps, 'outer step')}"
    )
    about = f'<p class="lead">{escape(space.about)}</p>' if space.about else ""
    return f"""<header>
<p class="eyebrow">Search report</p>
<h1>{escape(data.name)}</h1>
{about}<p class="lead">{escape(lead)}</p>
<div class="stats">{"".join(_stats(data, found))}</div>
</header>
"""


def _stats(data: SearchData, found: Found | None) -> list[str]:
    if found is None:
        best = data.ranked()[:1]
        counts = ", ".join(f"{n} {status}" for status, n in _by_status(data).items())
        first = (
            stat(data.shown(best[0].score or 0.0), "", _searched(data, best[0].number), first=True)
            if best
            else stat("no score", "", "no trial has one yet", first=True)
        )
        return [first, stat(f"{len(data.trials):,}", "", f"trials begun ({counts or 'none'})")]
    result = []
    if found.best is None:
        rival = found.rivals[0] if found.rivals else None
        if rival:
            words = (
                f"{data.score_name} of trial {found.trial} on {found.episodes:,} fresh validation"
            )
            of = _beside(data, found, "val")
            result.append(stat(*estimate(data, rival.fresh), f"{words} episodes{of}", first=True))
    else:
        for setting, words in ((found.best, "the setting found"), (found.default, "the default")):
            if setting is None:
                continue
            seeds = plural(len(setting.seeds), "seed")
            of = _beside(data, found, "test")
            test = f"{data.score_name} on test episodes{of}, {words}, {seeds}, interval over "
            result.append(
                stat(*estimate(data, setting.test), f"{test}{setting.test.over}", first=not result)
            )
    if found.against_default is not None:
        apart = found.against_default
        word = apart.word(data.measure) or "too few to tell"
        of = "mean over seeds" if len(found.by_seed) > 1 else "one seed"
        result.append(
            stat(
                *difference(data, apart),
                f"{word}: found minus default on the same {apart.n:,} fresh validation episodes"
                f"{_beside(data, found, 'val')}, {of}, interval over {found.over}",
            )
        )
    return result


def _beside(data: SearchData, found: Found, part: str) -> str:
    """How many classes the episodes of a part are of."""
    return of_classes(found.of_classes.get(part, {}), data.measure)


def _searched(data: SearchData, trial: int) -> str:
    return (
        f"best validation {data.score_name} so far, trial {trial}; it chose itself: not confirmed"
    )


def _by_status(data: SearchData) -> dict[str, int]:
    return dict(sorted(Counter(t.status for t in data.trials).items()))


def estimate(data: SearchData, of: Estimate) -> tuple[str, str]:
    """A mean and its interval in words."""
    return score_ci(of.mean, of.ci95, data.regression)


def difference(data: SearchData, apart: Paired) -> tuple[str, str]:
    """A paired difference and its interval in words, with a sign."""
    if not math.isfinite(apart.mean):
        return "none finite", ""
    # Not more decimals than the larger of the two bears.
    like = max(abs(apart.mean), apart.ci95) if math.isfinite(apart.ci95) else apart.mean
    if data.regression:
        text = mean_ci(apart.mean, apart.ci95, lambda value: number(value, like=like))
    else:
        text = mean_ci(apart.mean, apart.ci95, "{:.1f}", "points")
    value, _, half = text.partition(" ")
    return ("" if value.startswith("-") else "+") + value.replace("-", "−"), half


def notes(data: SearchData, found: Found | None) -> str:
    """What one has to know to read the figures rightly."""
    told = []
    if data.status != "finished":
        told.append(
            note(
                _STATUS.get(data.status, f"The state of this search is unknown ({data.status})."),
                "The figures below are those of its directory at the time of this report.",
                warning=data.status == "failed",
            )
        )
    if found is not None and found.within_noise:
        told.append(
            note(
                "Within noise of the next.",
                f"On {found.episodes:,} fresh validation episodes the best trial and the next "
                "cannot be told apart: another search may well find the other.",
                warning=True,
            )
        )
    if found is not None and found.best is None:
        told.append(
            note(
                "Not trained anew.",
                "No run with another seed confirms this setting, and test episodes have not been "
                "looked at.",
                warning=True,
            )
        )
    if found is not None:
        for part, own in found.of_classes.items():
            if few := few_classes(own["classes"], own["ways"], part):
                told.append(note("Few classes.", f"{few}.", warning=True))
        told += _seeds(data, found)
        told += _edges(data, found)
    failed = [t for t in data.trials if t.status == "failed"]
    if failed:
        reasons = Counter(t.error or "no reason given" for t in failed).most_common(3)
        why = "; ".join(f"{n} × {_short(text)}" for text, n in reasons)
        told.append(note("Failed trials.", f"{len(failed)} of {len(data.trials)}: {why}"))
    told += [note("Not shown.", text, warning=True) for text in data.notes]
    return "".join(told)


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:199]}…"


def _seeds(data: SearchData, found: Found) -> list[str]:
    """Seeds that say otherwise than all together."""
    whole = found.against_default
    if whole is None or not math.isfinite(whole.mean):
        return []
    other = [a for a in found.by_seed if a.mean * whole.mean < 0]
    if not other:
        return []
    return [
        note(
            "Seeds disagree.",
            f"With {len(other)} of {plural(len(found.by_seed), 'seed')} the difference to the "
            "default has the other sign.",
            warning=True,
        )
    ]


def _edges(data: SearchData, found: Found) -> list[str]:
    axes = key_axes(data)
    at_end = []
    for key, value in found.point.items():
        axis = axes.get(key)
        if axis is None or axis.scale is None:
            continue
        place = axis.place(value)
        if place <= _EDGE or place >= 1 - _EDGE:
            at_end.append(f"{key} = {value_text(value)}")
    if not at_end:
        return []
    return [
        note(
            "At the end of its domain.",
            f"{', '.join(at_end)}: what is best may lie beyond. A wider domain would tell.",
        )
    ]


def found_section(data: SearchData, found: Found | None) -> str:
    """The values that were found beside the default's, the best trials on fresh episodes, and the
    command that trains what was found."""
    if found is None:
        return ""
    command = ""
    if data.recipe:
        line = escape(f"metadist train {shlex.quote(data.recipe)}")
        command = f'<h3>Train it</h3><pre class="command">{line}</pre>'
    return (
        '<h2>What was found</h2><div class="grid">'
        f'<section class="card"><h3>Setting</h3>{_setting(data, found)}{command}</section>'
        f'{_anew(data, found)}</div><section class="card below">'
        f"<h3>The best trials on fresh episodes</h3>{_rivals(data, found)}</section>\n"
    )


def _setting(data: SearchData, found: Found) -> str:
    rows = []
    # A population's schedules are values too, and no searched keys.
    for key in dict.fromkeys([*data.space.search, *found.point]):
        there = [
            value_text(values[key]) if key in values else "not set"
            for values in (found.point, data.default)
        ]
        default = there[1] if data.default else "unknown"
        rows.append(
            f"<tr><td>{escape(key)}</td><td>{escape(there[0])}</td><td>{escape(default)}</td></tr>"
        )
    head = "<tr><th>key</th><th>found</th><th>default</th></tr>"
    return table(head, rows)


def _rivals(data: SearchData, found: Found) -> str:
    rows = [_rival(data, rival) for rival in found.rivals]
    head = (
        "<tr><th>trial</th><th>in the search</th><th>fresh episodes</th>"
        "<th>to the best</th><th></th></tr>"
    )
    about = (
        f"The score in the search chose these trials and flatters them; {found.episodes:,} fresh "
        f"validation episodes{_beside(data, found, 'val')} choose among them. Differences are "
        "paired by episode."
    )
    return f'{table(head, rows)}<p class="muted">{about}</p>'


def _rival(data: SearchData, rival: Rival) -> str:
    fresh = " ".join(estimate(data, rival.fresh))
    apart, word = "", "best"
    if rival.apart is not None:
        apart = " ".join(difference(data, rival.apart))
        word = rival.apart.word(data.measure) or "too few to tell"
    searched = data.shown(rival.searched) if math.isfinite(rival.searched) else "none"
    chosen = ' class="chosen"' if rival.apart is None else ""
    cells = [str(rival.trial), searched, fresh, apart, word]
    return f"<tr{chosen}>{''.join(f'<td>{escape(c)}</td>' for c in cells)}</tr>"


def _anew(data: SearchData, found: Found) -> str:
    """Validation and test figures of the setting found and the default."""
    rows = []
    for name, setting in (("found", found.best), ("default", found.default)):
        if setting is None:
            continue
        cells: list[Any] = [
            name,
            ", ".join(map(str, setting.seeds)),
            " ".join(estimate(data, setting.validation)),
            " ".join(estimate(data, setting.test)),
        ]
        rows.append(f"<tr>{''.join(f'<td>{escape(c)}</td>' for c in cells)}</tr>")
    if not rows:
        return ""
    head = "<tr><th>setting</th><th>seeds</th><th>fresh validation</th><th>test</th></tr>"
    over = found.best.test.over if found.best else "episodes"
    told = f"{data.score_name.capitalize()} at the search's budget, intervals over {over}."
    if found.against_default is not None:
        apart = found.against_default
        word = apart.word(data.measure) or "too few to tell"
        told += f" Found minus default, paired: {' '.join(difference(data, apart))} ({word}; "
        told += f"interval over {found.over})"
        if len(found.by_seed) > 1:
            each = "; ".join(" ".join(difference(data, a)) for a in found.by_seed)
            told += f"; by seed: {each}"
        told += "."
    text = f'<p class="muted">{escape(told)}</p>'
    return f'<section class="card"><h3>Trained anew</h3>{table(head, rows)}{text}</section>'


def table(head: str, rows: list[str]) -> str:
    """A table that scrolls where it is too wide."""
    return (
        f'<div class="scroll"><table><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table>'
        "</div>"
    )
