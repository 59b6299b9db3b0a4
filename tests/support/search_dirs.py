"""Directories of searches made up for tests of the report: records and logs without training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from metadist.runs.listing import create_run
from metadist.runs.log import LogWriter
from metadist.search.plan import Plan, make_plan
from metadist.search.search_dir import SearchDir, TrialRecord, create_search
from metadist.space import Asha, Choice, Integers, LogUniform, Space, Uniform, When

BATCH = 25
RATES = Space(
    about="two rates",
    base="sinusoid-10shot-maml",
    search={"inner.lr": LogUniform(1e-4, 1.0), "outer.lr": LogUniform(1e-5, 1e-1)},
    metric="val/mse",
    mode="min",
    steps=400,
    every=100,
    trials=12,
    searcher="random",
    scheduler=Asha(grace=1),
)
#: Eight keys of every kind, two of which count in some trials only.
MANY = replace(
    RATES,
    base="strokes-5w1s-maml",
    search={
        "algorithm.adapt_norm": Choice(True, False),
        "inner.lr": LogUniform(1e-3, 1.0),
        "inner.steps": Integers(1, 3),
        "outer.optimizer": Choice("adam", "sgd"),
        "outer.clip": When("outer.optimizer", ("sgd",), Uniform(0.5, 5.0)),
        "outer.batch": Integers(4, 64, log=True),
        "outer.schedule": Choice("constant", "cosine"),
        "outer.final_lr": When("outer.schedule", ("cosine",), LogUniform(1e-6, 1e-4)),
    },
    metric="val/accuracy",
    mode="max",
    trials=20,
)
#: Values that a learner of two rates likes best.
IDEAL = (-2.0, -2.6)


def rates_plan(**changes: Any) -> Plan:
    return make_plan("rates", replace(RATES, **changes), seed=3)


def points_of(plan: Plan) -> list[dict[str, Any]]:
    """The points of a search that depend on no result."""
    points = plan.points
    assert points is not None
    return [dict(point) for point in points]


def error_of(point: dict[str, Any]) -> float:
    """A mean squared error that rises with the distance from the ideal."""
    inner, outer = (np.log10(point[key]) for key in ("inner.lr", "outer.lr"))
    return float(0.5 + (inner - IDEAL[0]) ** 2 / 9 + (outer - IDEAL[1]) ** 2)


def accuracy_of(point: dict[str, Any]) -> float:
    return float(0.9 - 0.1 * abs(np.log10(point["inner.lr"]) + 1) - 0.01 * point["inner.steps"])


def make_search(root: Path, plan: Plan, name: str = "demo") -> SearchDir:
    return create_search(root, name, {"plan": plan.document()})


def add_trial(
    plan: Plan, search: SearchDir, number: int, *, status: Any = "finished", steps: int = 400
) -> TrialRecord:
    """A trial with its record and, if it has a score, a run whose log agrees with it."""
    point = points_of(plan)[number - 1]
    run_name, batch = f"trial-{number:04d}", plan.recipe(point).outer.batch
    record = TrialRecord(number, point, run_name, status)
    if status == "failed":
        record = replace(record, error="the loss is not finite at step 7", steps=7, tasks=7 * batch)
    else:
        how = accuracy_of if plan.space.mode == "max" else error_of
        score = how(point)
        add_run(plan, search, run_name, point, score, steps)
        record = replace(record, score=score, best_step=steps, steps=steps, tasks=steps * batch)
    search.record(record)
    return record


def add_run(
    plan: Plan, search: SearchDir, name: str, point: dict[str, Any], score: float, steps: int
) -> None:
    recipe = plan.recipe(point, seed=1 if "seed" in name else None)
    run = create_run(search.runs, name, recipe, {"result": None})
    writer = LogWriter(run.claim({"world_size": 1}))
    worse = -0.1 if plan.space.mode == "max" else 0.5
    for step in range(plan.space.every, steps + 1, plan.space.every):
        value = score + worse * (steps - step) / steps
        writer.add(step, {plan.space.metric: value, "train/loss": 1.0})
    writer.flush()


def finished_search(root: Path, plan: Plan | None = None) -> SearchDir:
    """A search of which every third trial was stopped, one failed, and the best was confirmed."""
    plan = plan or rates_plan()
    search = make_search(root, plan)
    records = []
    for number in range(1, plan.trials + 1):
        stopped = number % 3 == 0
        failed = number == 2
        records.append(
            add_trial(
                plan,
                search,
                number,
                status="failed" if failed else "stopped" if stopped else "finished",
                steps=200 if stopped else 400,
            )
        )
    conclude(plan, search, records)
    return search


def conclude(plan: Plan, search: SearchDir, records: Sequence[TrialRecord]) -> None:
    sign = -1.0 if plan.space.mode == "max" else 1.0
    top = sorted(
        (r for r in records if r.score is not None), key=lambda r: sign * (r.score or 0.0)
    )[:3]
    winner = top[0]
    result = a_result(winner, top, plan.space.metric)
    for run in (*result["best"], *result["default"]):
        point = winner.point if run in result["best"] else {}
        add_run(plan, search, run["run"], point, run["validation"]["mean"], 400)
    recipe = plan.recipe(winner.point, seed=1)
    search.best.write_text(recipe.to_toml(), encoding="utf-8")
    search.update(status="finished", result=result)


def a_result(
    winner: TrialRecord, top: Sequence[TrialRecord], metric: str = "val/mse"
) -> dict[str, Any]:
    """A result as the end of a search writes it."""
    score = winner.score or 0.0
    apart = {"ci95": 0.2, "left_out": 0, "n": 50}
    worse = 1.5 if metric == "val/mse" else -0.3
    runs: dict[str, list[dict[str, Any]]] = {
        setting: [
            {
                "run": f"{setting}-seed{seed}",
                "seed": seed,
                "validation": {"mean": score + shift, "ci95": 0.05},
                "test": {"mean": score + shift, "ci95": 0.05},
                "params_sha256": "a" * 64,
            }
            for seed in (1, 2)
        ]
        for setting, shift in (("best", 0.01), ("default", worse))
    }
    estimates = {
        f"{setting}_{part}": {"mean": runs[setting][0][part]["mean"], "ci95": 0.07, "over": "seeds"}
        for setting in ("best", "default")
        for part in ("validation", "test")
    }
    return {
        "trial": winner.number,
        "point": winner.point,
        "search_score": winner.score,
        "episodes": 50,
        "within_noise": False,
        "tested": [winner.run],
        "metric": metric,
        "top": [
            {
                "trial": trial.number,
                "mean": (trial.score or 0.0) + 0.02,
                "ci95": 0.1,
                "search": trial.score,
                **({} if trial is winner else {"difference": {"mean": 0.3 * worse, **apart}}),
            }
            for trial in top
        ],
        **runs,
        **estimates,
        "against_default": {
            "mean": -worse,
            **apart,
            "over": "seeds",
            "word": "better",
            "by_seed": [{"mean": -worse - 0.1, **apart}, {"mean": -worse + 0.1, **apart}],
        },
    }
