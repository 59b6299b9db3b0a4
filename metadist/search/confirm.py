"""Selection without fooling oneself.

The best of many noisy scores is better than what it stands for, and the episodes that chose it say
so too kindly. The best trials are therefore compared on validation episodes that no trial has seen;
the winner is trained anew with several seeds beside the default setting; and test episodes are
looked at once, for what has been chosen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from metadist import plugins
from metadist.compute.device import local_device
from metadist.errors import SpaceError
from metadist.evaluation.protocols import EvalRequest, own_protocols, protocol
from metadist.evaluation.trained_run import TrainedRun
from metadist.recipe.schema import Recipe
from metadist.runs.readers.evaluations import StoredEvaluation, read_evaluation
from metadist.runs.run_dir import RunDir
from metadist.search.plan import Plan
from metadist.search.search_dir import SearchDir, TrialRecord, rank, ranked
from metadist.search.trial import TrialContext, is_of, train_run
from metadist.space import Point
from metadist.statistics.format import finite
from metadist.statistics.paired import Paired, Rows, paired, t975

#: Trials that are compared on fresh episodes.
TOP = 3
#: Seeds of fresh episodes are the recipe's ``eval.seed`` plus these: those that choose the winner,
#: and those that judge what was chosen.
CHOOSING, JUDGING = 1, 2


@dataclass(frozen=True)
class Confirmation:
    """How a choice is confirmed.

    Attributes:
        episodes: fresh validation episodes.
        seeds: runs of the winner and of the default; 0: no run at all.
        default: run the default too.
    """

    episodes: int = 1000
    seeds: int = 3
    default: bool = True


@dataclass(frozen=True)
class ConfirmationRun:
    """A run to be trained if it is not, and to be evaluated on fresh episodes.

    Attributes:
        recipe: None: a trial that has been trained.
    """

    name: str
    recipe: Recipe | None = None


def confirm_run(context: TrialContext, job: ConfirmationRun, episodes: int) -> None:
    """Do a job; what is done already is not done again."""
    search = context.search
    if (anew := job.recipe) is not None:
        there = search.run(job.name)
        if there.path.exists() and not is_of(there, anew):
            # Of a trial that was lost, whose number has another point now.
            search.set_aside(there.path)
        train_run(context, job.name, anew)
    run = search.run(job.name)
    recipe = run.recipe()
    fresh = CHOOSING if anew is None else JUDGING
    name = fresh_name(recipe, episodes, fresh)
    if not all((run.evaluation / f"{name}.{end}").is_file() for end in ("json", "parquet")):
        with plugins.use(context.plugins):
            plugins.require(run.path, run.info(), warn=True)
            ended = TrainedRun.load(run, context.data_dir, local_device(context.device))
            ended.evaluate(fresh_request(recipe, episodes, fresh))


def fresh_request(recipe: Recipe, episodes: int, fresh: int) -> EvalRequest:
    """Fresh validation episodes."""
    return EvalRequest(part="val", episodes=episodes, seed=recipe.eval.seed + fresh)


def fresh_name(recipe: Recipe, episodes: int, fresh: int) -> str:
    """The name of the results on fresh validation episodes."""
    return protocol([("", recipe)], fresh_request(recipe, episodes, fresh)).name


def candidates(plan: Plan, trials: Sequence[TrialRecord]) -> list[ConfirmationRun]:
    """The best trials, to be compared on fresh episodes.

    Raises:
        SpaceError: no trial has a score.
    """
    best = ranked(list(trials), plan.space.mode)[:TOP]
    if not best:
        errors = sorted({t.error for t in trials if t.error})
        why = f": {'; '.join(errors[:3])}" if errors else ""
        raise SpaceError(f"none of {len(trials)} trials has a score{why}")
    return [ConfirmationRun(trial.run) for trial in best]


@dataclass(frozen=True)
class Chosen:
    """What fresh episodes say of the best trials.

    Attributes:
        winner: the best of them there.
        top: trial, mean, ci95, and the difference to the winner, of each; the winner first.
        within_noise: whether one of the others is not clearly worse.
    """

    winner: TrialRecord
    top: list[dict[str, Any]]
    within_noise: bool


def choose(plan: Plan, search: SearchDir, trials: Sequence[TrialRecord], episodes: int) -> Chosen:
    """The best trial on fresh validation episodes; :func:`confirm_run` has evaluated it on them."""
    best = ranked(list(trials), plan.space.mode)[:TOP]
    rows = {t.number: fresh_rows(search, t.run, episodes, CHOOSING) for t in best}
    means = {number: _mean(of) for number, of in rows.items()}
    failed = {number: int((~np.isfinite(of.score)).sum()) for number, of in rows.items()}
    scores = {n: rank(mean, plan.space.mode) for n, (mean, _) in means.items()}
    # A mean over what did not fail favours learners that diverge on what is hard for them.
    order = sorted(best, key=lambda t: (failed[t.number] > 0, scores[t.number], t.number))
    winner = order[0]
    top, close = [], []
    for trial in order:
        entry: dict[str, Any] = {
            "trial": trial.number,
            **_figure(*means[trial.number]),
            "search": trial.score,
            "failed": failed[trial.number],
        }
        if trial is not winner:
            apart = paired(rows[trial.number], rows[winner.number])
            close.append(apart.word(rows[winner.number].metric) != "worse")
            entry["difference"] = difference(apart)
        top.append(entry)
    return Chosen(winner, top, any(close))


def final_runs(plan: Plan, winner: TrialRecord, how: Confirmation) -> list[ConfirmationRun]:
    """The winner and the default, each with the same new seeds."""
    points: dict[str, Point] = {"best": winner.point, "default": {}}
    names = run_names(plan, winner, how)
    return [
        ConfirmationRun(names[setting][i], plan.recipe(points[setting], seed=seed))
        for i, seed in enumerate(seeds(plan, how))
        for setting in ("best", "default")
        if names[setting]
    ]


def run_names(plan: Plan, winner: TrialRecord, how: Confirmation) -> dict[str, list[str]]:
    """Names of the runs of the ``best`` setting and of the ``default``, by their seeds.

    Another winner has others.
    """
    stems = {"best": f"best-{winner.run}", "default": "default"}
    names = {key: [f"{stem}-seed{s}" for s in seeds(plan, how)] for key, stem in stems.items()}
    return names if how.default else {**names, "default": []}


def winners_tested(search: SearchDir) -> list[str]:
    """Trials whose setting has been looked at on test classes; more than one after a search that
    was given more trials, or other episodes, and has chosen anew."""
    runs = (p.parent.parent.name for p in search.runs.glob("best-*/evaluation/test-*.json"))
    return sorted({name.removeprefix("best-").rpartition("-seed")[0] for name in runs})


def seeds(plan: Plan, how: Confirmation) -> list[int]:
    """Seeds that no trial has had."""
    first = plan.recipe({}).run.seed + 1
    return list(range(first, first + how.seeds))


def results(plan: Plan, search: SearchDir, chosen: Chosen, how: Confirmation) -> dict[str, Any]:
    """What the search has come to, JSON-able: ``result`` in search.json."""
    winner = chosen.winner
    names = run_names(plan, winner, how)
    rows = {name: fresh_rows(search, name, how.episodes) for own in names.values() for name in own}
    result: dict[str, Any] = {
        "trial": winner.number,
        "point": winner.point,
        "search_score": winner.score,
        "episodes": how.episodes,
        "top": chosen.top,
        "within_noise": chosen.within_noise,
        "metric": plan.space.metric,
        **({"measured": dict(plan.measured)} if plan.measured else {}),
        "labels": plan.recipe({}).data.ways > 0,
        "tested": winners_tested(search),
        "of_classes": _of_classes(search, winner.run, names["best"], how.episodes),
    }
    for setting, own in names.items():
        runs = result[setting] = [_run_figures(search, name, rows[name]) for name in own]
        for part in ("validation", "test") if runs else ():
            result[f"{setting}_{part}"] = _over_seeds([run[part] for run in runs])
    if names["default"]:
        mine, theirs = ([rows[name] for name in names[s]] for s in ("best", "default"))
        by_seed = [paired(a, b) for a, b in zip(mine, theirs, strict=True)]
        apart, over = _wider(paired(_averaged(mine), _averaged(theirs)), by_seed)
        result["against_default"] = {
            **difference(apart),
            "over": over,
            "word": apart.word(mine[0].metric),
            "by_seed": [difference(one) for one in by_seed],
        }
    return result


def fresh_rows(search: SearchDir, run_name: str, episodes: int, fresh: int = JUDGING) -> Rows:
    """Scores of a run on the fresh validation episodes."""
    run = search.run(run_name)
    found = _read(run, fresh_name(run.recipe(), episodes, fresh))
    if found.rows is None:
        raise SpaceError(f"{run.path}: the scores of {found.name} cannot be read")
    return found.rows


def _read(run: RunDir, name: str) -> StoredEvaluation:
    notes: list[str] = []
    if (found := read_evaluation(run, name, notes)) is None:
        raise SpaceError(f"{run.path}: {' '.join(notes)}")
    return found


def difference(apart: Paired) -> dict[str, Any]:
    """A paired difference, JSON-able."""
    return {name: finite(value) for name, value in asdict(apart).items()}


def _of_classes(
    search: SearchDir, winner: str, best: Sequence[str], episodes: int
) -> dict[str, dict[str, int]]:
    """How many classes fresh validation and test episodes are of, where that is known."""
    run = search.run(winner)
    found = {"val": _read(run, fresh_name(run.recipe(), episodes, CHOOSING))}
    for name in best[:1]:
        found["test"] = _read(search.run(name), own_protocols(run.recipe())[0].name)
    return {part: own.classes.told() for part, own in found.items() if own.classes}


def _mean(rows: Rows) -> tuple[float, float]:
    """Mean and half-width of its 95 % interval over episodes."""
    kept = rows.score[np.isfinite(rows.score)]
    if len(kept) < 2:
        return (float(kept[0]) if len(kept) else math.nan), math.nan
    return float(kept.mean()), float(1.96 * kept.std(ddof=1) / math.sqrt(len(kept)))


def _figure(mean: float, ci95: float) -> dict[str, float | None]:
    return {"mean": finite(mean), "ci95": finite(ci95)}


def _averaged(rows: Sequence[Rows]) -> Rows:
    """Of each episode, the mean of several runs' scores."""
    stacked = np.stack([r.score for r in rows])
    return Rows(rows[0].episode_digest, rows[0].metric, stacked.mean(0))


def _run_figures(search: SearchDir, name: str, rows: Rows) -> dict[str, Any]:
    run = search.run(name)
    mean, ci95 = _mean(rows)
    test = _read(run, own_protocols(run.recipe())[0].name).figure
    return {
        "run": name,
        "seed": run.recipe().run.seed,
        "validation": _figure(mean, ci95),
        "test": _figure(test.mean, test.ci95),
        "params_sha256": (run.info().get("result") or {}).get("params_sha256"),
    }


def _wider(apart: Paired, by_seed: Sequence[Paired]) -> tuple[Paired, str]:
    """The difference of two settings with the wider of its intervals, and what that is over.

    Episodes do not know what other seeds of training would show, and a few seeds may agree by
    chance. Of one seed there is only the interval over episodes.
    """
    if len(by_seed) < 2:
        return apart, "episodes"
    over_seeds = _over_seeds([_figure(one.mean, one.ci95) for one in by_seed])["ci95"]
    half = math.nan if over_seeds is None else float(over_seeds)
    if apart.ci95 > half:
        return apart, "episodes"
    return replace(apart, ci95=half), "seeds"


def _over_seeds(figures: Sequence[Mapping[str, float | None]]) -> dict[str, Any]:
    """Mean over runs; the interval is that over seeds, or of one run that over episodes.

    Without a mean where a run has none: the others would look better than the setting is.
    """
    means = [f["mean"] for f in figures if f["mean"] is not None]
    if len(means) < len(figures):
        return {"mean": None, "ci95": None, "over": "seeds"}
    mean = math.fsum(means) / len(means)
    if len(means) == 1:
        return {"mean": mean, "ci95": figures[0]["ci95"], "over": "episodes"}
    deviation = math.sqrt(math.fsum((m - mean) ** 2 for m in means) / (len(means) - 1))
    half = t975(len(means) - 1) * deviation / math.sqrt(len(means))
    return {**_figure(mean, half), "over": "seeds"}
