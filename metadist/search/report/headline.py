"""What was found: the figures at the head of the page, and what one has to know beside them."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from typing import Any

from metadist.report.document import Note, Stat
from metadist.report.phrases import plural
from metadist.search.report.data import SearchData, shown, value_text
from metadist.search.report.result_schema import Difference, Estimate, Found
from metadist.space import Choice, Domain, Integers, LogUniform, When
from metadist.statistics.classes import few_classes, of_classes
from metadist.statistics.format import cut, mean_ci, number, score_ci, sentence

_STATUS = {
    "running": "This search is not finished.",
    "interrupted": "This search was interrupted.",
    "failed": "This search ended early.",
}
#: Nearer to an end of a domain than this share of it, what is best may lie beyond.
_EDGE = 0.03


def lead(data: SearchData) -> str:
    """What was searched."""
    space = data.space
    who = {"tpe": "TPE", "random": "random search", "grid": "grid search"}[space.searcher]
    return (
        f"{plural(len(space.search), 'hyper-parameter')} of {space.base}, {who}, "
        f"{len(data.trials):,} of {plural(data.plan.trials, 'trial')} of "
        f"{plural(space.steps, 'outer step')}"
    )


def stats(data: SearchData, found: Found | None) -> list[Stat]:
    """The main figures."""
    if found is None:
        figure, words = "no score", "no trial has one yet"
        if best := data.ranked()[:1]:
            figure = data.shown(best[0].score or 0.0)
            words = (
                f"best validation {data.metric.title} so far, trial {best[0].number}; it chose "
                "itself: not confirmed"
            )
        by_status = sorted(Counter(t.status for t in data.trials).items())
        counts = ", ".join(f"{n} {status}" for status, n in by_status)
        begun = Stat(f"{len(data.trials):,}", "", f"trials begun ({counts or 'none'})")
        return [Stat(figure, "", words), begun]
    result = []
    if found.best is None:
        words = (
            f"{data.metric.title} of trial {found.trial} on {found.episodes:,} fresh validation "
            f"episodes{_beside(data, found, 'val')}"
        )
        result += [Stat(*estimate(data, rival), words) for rival in found.top[:1]]
    for setting, words in ((found.best, "the setting found"), (found.default, "the default")):
        if found.best is not None and setting is not None:
            test = (
                f"{data.metric.title} on test episodes{_beside(data, found, 'test')}, {words}, "
                f"{plural(len(setting.runs), 'seed')}, interval over {setting.test.over}"
            )
            result.append(Stat(*estimate(data, setting.test), test))
    if (apart := found.against_default) is not None:
        of = "mean over seeds" if len(apart.by_seed) > 1 else "one seed"
        words = (
            f"{_word(data, apart)}: found minus default on the same {apart.n:,} fresh validation "
            f"episodes{_beside(data, found, 'val')}, {of}, interval over {apart.over}"
        )
        result.append(Stat(*difference(data, apart), words))
    return result


def _beside(data: SearchData, found: Found, part: str) -> str:
    """How many classes the episodes of a part are of."""
    return of_classes(found.of_classes.get(part, {}), labels=data.labels)


def estimate(data: SearchData, of: Estimate) -> tuple[str, str]:
    """A mean and its interval in words."""
    return score_ci(data.metric, of.mean, of.ci95)


def difference(data: SearchData, apart: Difference) -> tuple[str, str]:
    """A paired difference and its interval in words, with a sign."""
    if not math.isfinite(apart.mean):
        return "none finite", ""
    # Not more decimals than the larger of the two bears.
    like = max(abs(apart.mean), apart.ci95) if math.isfinite(apart.ci95) else apart.mean
    if data.metric.percent:
        text = mean_ci(apart.mean, apart.ci95, "{:.1f}", "points")
    else:
        text = mean_ci(apart.mean, apart.ci95, lambda value: number(value, like=like))
    value, _, half = text.partition(" ")
    return ("" if value.startswith("-") else "+") + value.replace("-", "−"), half


def _word(data: SearchData, apart: Difference) -> str:
    return apart.paired.word(data.metric) or "too few to tell"


def notes(data: SearchData, found: Found | None) -> list[Note]:
    """What one has to know to read the figures rightly."""
    told = []
    if data.status != "finished":
        what = _STATUS.get(data.status, f"The state of this search is unknown ({data.status}).")
        text = "The figures below are those of its directory at the time of this report."
        told.append(Note(what, text, warning=data.status == "failed"))
    if found is not None:
        told += _notes_on_result(data, found)
    failed = [t for t in data.trials if t.status == "failed"]
    if failed:
        reasons = Counter(t.error or "no reason given" for t in failed).most_common(3)
        why = "; ".join(f"{n} × {cut(text, 200)}" for text, n in reasons)
        told.append(Note("Failed trials.", f"{len(failed)} of {len(data.trials)}: {why}"))
    told += [Note("Not shown.", text, warning=True) for text in data.notes]
    return told


def _notes_on_result(data: SearchData, found: Found) -> list[Note]:
    told = []
    if found.within_noise:
        text = (
            f"On {found.episodes:,} fresh validation episodes the best trial and the next cannot "
            "be told apart: another search may well find the other."
        )
        told.append(Note("Within noise of the next.", text, warning=True))
    if found.best is None:
        text = (
            "No run with another seed confirms this setting, and test episodes have not been "
            "looked at."
        )
        told.append(Note("Not trained anew.", text, warning=True))
    for part, own in found.of_classes.items():
        if few := few_classes(own["classes"], own["ways"], part):
            told.append(Note("Few classes.", f"{few}.", warning=True))
    if (apart := found.against_default) is not None:
        other = sum(of.mean * apart.mean < 0 for of in apart.by_seed)
        text = (
            f"With {other} of {plural(len(apart.by_seed), 'seed')} the difference to the default "
            "has the other sign."
        )
        if other:
            told.append(Note("Seeds disagree.", text, warning=True))
    known = data.space.search
    edges = ((k, v) for k, v in found.point.items() if k in known and _is_at_the_edge(known[k], v))
    if at_end := [f"{key} = {value_text(value)}" for key, value in edges]:
        text = f"{', '.join(at_end)}: what is best may lie beyond. A wider domain would tell."
        told.append(Note("At the end of its domain.", text))
    return told


def _is_at_the_edge(domain: Domain, value: Any) -> bool:
    domain = domain.then if isinstance(domain, When) else domain
    if isinstance(domain, Choice) or isinstance(value, bool | str):
        return False
    low, high = domain.low, domain.high
    if domain.log if isinstance(domain, Integers) else isinstance(domain, LogUniform):
        if value <= 0:
            return False
        low, high, value = math.log(low), math.log(high), math.log(value)
    place = (value - low) / (high - low)
    return bool(place <= _EDGE or place >= 1 - _EDGE)


def found_section(data: SearchData, found: Found) -> dict[str, Any]:
    """The values that were found beside the default's, the best trials on fresh episodes, and the
    command that trains what was found."""
    anew, told = _anew(data, found)
    fresh = f"{found.episodes:,} fresh validation episodes{_beside(data, found, 'val')}"
    return {
        "setting": _setting(data, found),
        "command": f"metadist train {shlex.quote(data.recipe)}" if data.recipe else "",
        "anew": anew,
        "anew_told": told,
        "rivals": _rivals(data, found),
        "best": next((i for i, rival in enumerate(found.top) if rival.difference is None), None),
        "episodes": fresh,
    }


def _setting(data: SearchData, found: Found) -> list[list[str]]:
    # A population's schedules are values too, and no searched keys.
    keys = dict.fromkeys([*data.space.search, *found.point])
    rows = [
        [key, shown(found.point, key), shown(data.default, key) if data.default else "unknown"]
        for key in keys
    ]
    return [["key", "found", "default"], *rows]


def _rivals(data: SearchData, found: Found) -> list[list[str]]:
    rows = [["trial", "in the search", "fresh episodes", "to the best", ""]]
    for rival in found.top:
        apart, word = "", "best"
        if rival.difference is not None:
            apart = " ".join(difference(data, rival.difference))
            word = _word(data, rival.difference)
        searched = data.shown(rival.search) if math.isfinite(rival.search) else "none"
        rows.append([str(rival.trial), searched, " ".join(estimate(data, rival)), apart, word])
    return rows


def _anew(data: SearchData, found: Found) -> tuple[list[list[str]], str]:
    """Validation and test figures of the setting found and the default, and what is said of them;
    nothing if neither was trained anew."""
    rows = [["setting", "seeds", "fresh validation", "test"]]
    for name, setting in (("found", found.best), ("default", found.default)):
        if setting is None:
            continue
        seeds = ", ".join(str(run.seed) for run in setting.runs)
        figures = (" ".join(estimate(data, of)) for of in (setting.validation, setting.test))
        rows.append([name, seeds, *figures])
    if len(rows) == 1:
        return [], ""
    over = found.best.test.over if found.best else "episodes"
    told = f"{sentence(data.metric.title)} at the search's budget, intervals over {over}."
    if (apart := found.against_default) is not None:
        told += f" Found minus default, paired: {' '.join(difference(data, apart))} "
        told += f"({_word(data, apart)}; interval over {apart.over})"
        if len(apart.by_seed) > 1:
            each = "; ".join(" ".join(difference(data, a)) for a in apart.by_seed)
            told += f"; by seed: {each}"
        told += "."
    return rows, told
