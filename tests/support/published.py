"""Tables and finished runs for tests of ``metadist reproduce``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from metadist.compute.resolve import resolve
from metadist.evaluation.evaluation import Evaluation
from metadist.evaluation.evaluator import write_evaluation
from metadist.evaluation.protocols import EvalRequest, own_protocols, protocol
from metadist.objectives import ACCURACY, MSE, Metric
from metadist.recipe.schema import load_recipe
from metadist.reproduce.plan import Planned, Request
from metadist.reproduce.result import Result
from metadist.reproduce.table import Table, parse_table
from metadist.runs.listing import create_run
from metadist.runs.run_dir import RunDir
from metadist.statistics.classes import EpisodeClasses

FACTS = {
    "commit": "abc",
    "metadist": "0.1.0",
    "machine": "m",
    "python": "3",
    "torch": "2",
    "date": "2026-01-01",
}
HEAD = """
title = "A table"
summary = "What it is."
tasks = 100
[base]
recipe = "strokes-5w1s-maml"
set = ["outer.batch=10", "eval.extra_queries=0"]
published_steps = 100
published_batch = 10
[defaults]
metric = "accuracy"
source = "A paper, 2020"
read_in = "its page 3"
"""


REGRESSION = HEAD.replace("strokes-5w1s-maml", "sinusoid-10shot-maml").replace("accuracy", "mse")


def table(body: str, head: str = HEAD) -> Table:
    return parse_table(head + body, Path("some-table.toml"))


def row(name: str, run: str, published: str, more: str = "") -> str:
    return (
        f'[[rows]]\nid = "{name}"\nlabel = "{name.upper()}"\nrun = "{run}"\n'
        f"published = {{ {published} }}\n{more}\n"
    )


def request_of(one: Table, root: Path, seeds: int = 1) -> Request:
    return Request(one, tuple(one.rows), one.tasks, seeds, root / "runs", root / "data")


def planned_of(request: Request, key: str, seed: int = 0) -> Planned:
    """As ``plan`` has it, without a look at the data."""
    found = request.table
    name = f"{found.name}-{key}-t{request.tasks}-s{seed}"
    settings = (*found.overrides_of(key), f"outer.steps={request.tasks // 10}", f"run.seed={seed}")
    recipe = resolve(load_recipe(found.recipe_of(key), settings))
    return Planned(key, seed, name, RunDir(request.runs_dir / name), settings, recipe)


def finish(
    planned: Planned,
    curve: Sequence[float],
    *,
    asked: EvalRequest | None = None,
    spread: float = 0.1,
    failed: int = 0,
    speed: float = 100.0,
    digest: str = "d",
    classes: EpisodeClasses | None = None,
    metric: Metric | None = None,
    others: Sequence[Metric] = (),
) -> None:
    """A finished run whose mean scores after 0, 1, ... steps are ``curve``.

    Args:
        metric: what they are, if they are none of what is built in.
        others: further metrics; each is a hundredth of the score.
    """
    assert planned.recipe is not None
    recipe = planned.recipe
    facts: dict[str, Any] = {
        "dataset": {"digest": digest},
        "learner": {"estimator": "exact"},
        "made_by": [FACTS],
    }
    if not planned.run.path.exists():
        create_run(planned.run.path.parent, planned.name, recipe, facts | {"mlflow": None})
    result = {"tasks_per_second": speed, "params_sha256": "p"}
    planned.run.update(status="finished", result=result)
    own = own_protocols(recipe)[0] if asked is None else protocol([("x", recipe)], asked)
    scores = np.zeros((own.episodes, own.steps + 1))
    bad = np.zeros(scores.shape, dtype=bool)
    half = np.ones(own.episodes)
    half[::2] = -1  # a deviation of exactly ``spread``
    for step, mean in enumerate(curve):
        scores[:, step] = mean + spread * half
    bad[:failed] = True
    metric = metric or (ACCURACY if recipe.data.ways else MSE)
    done = Evaluation(
        protocol=own,
        kind="classification" if recipe.data.ways else "regression",
        metrics=(metric, *others),
        trained_steps=recipe.inner.steps,
        columns={
            metric.name: scores,
            **{other.name: scores / 100 for other in others},
            "loss": np.zeros(scores.shape),
        },
        failed=bad,
        episode_digest="e",
    )
    facts = {
        "norm": recipe.model.norm,
        "recipe_hash": recipe.hash,
        "checkpoint": {"step": 1, "params_sha256": "p"},
    }
    write_evaluation(planned.run.evaluation, replace(done, classes=classes), facts)


def by_id(result: Result) -> dict[str, str]:
    return {one.row.id: one.verdict.text for one in result.rows}
