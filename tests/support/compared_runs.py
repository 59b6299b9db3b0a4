"""Finished runs to be compared, made up: their scores are given, nothing is trained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from report_runs import FUNCTIONS, IMAGES, LEARNER

from metadist.evaluation.evaluation import Evaluation
from metadist.evaluation.evaluator import write_evaluation
from metadist.evaluation.protocols import EvalPart, EvalProtocol
from metadist.objectives import ACCURACY, MSE, Metric
from metadist.recipe.schema import parse_recipe
from metadist.runs.listing import create_run
from metadist.runs.log import LogWriter
from metadist.runs.run_dir import RunDir
from metadist.statistics.classes import EpisodeClasses

EPISODES = 40


def scores(mean: float, *, seed: int = 0, noise: float = 0.02) -> NDArray[np.float64]:
    """Scores of episodes that are as hard for everyone, with a little of one's own: float64 [E]."""
    hard = 0.15 * np.random.default_rng(99).standard_normal(EPISODES)
    own = noise * np.random.default_rng(seed).standard_normal(EPISODES)
    return np.asarray(np.clip(mean + hard + own, 0.01, 1.0))


def drawn_classes(episodes: int, count: int, ways: int = 5) -> EpisodeClasses:
    """Episodes of classes that are drawn without replacement."""
    rng = np.random.default_rng(count)
    ids = 4 * np.stack([rng.permutation(count)[:ways] for _ in range(episodes)])
    return EpisodeClasses(ids, count, count)


def write_scores(
    run: RunDir,
    score: NDArray[np.float64],
    *,
    name: str = "test-1q",
    digest: str = "e" * 64,
    regression: bool = False,
    checkpoint: int = 80,
    classes: int = 0,
    metric: Metric | None = None,
    others: Sequence[Metric] = (),
) -> None:
    """Results of a protocol: ``score`` after one adaptation step, less before it.

    Args:
        classes: that the episodes are of, five each; 0: not recorded.
        metric: what ``score`` is, if it is none of the two that are built in.
        others: further metrics; each is a hundredth of the score.
    """
    bad = ~np.isfinite(score)
    part: EvalPart = "val" if name.startswith("val") else "test"
    queries = int(name.rpartition("-")[2].removesuffix("q"))
    table = np.stack([score / 2, score], 1)
    failed = np.stack([bad, bad], 1)
    table[failed] = math.nan if regression else 0.0
    metric = metric or (MSE if regression else ACCURACY)
    result = Evaluation(
        protocol=EvalProtocol(name, part, 1, queries, len(score), 0, 1, 1),
        kind="regression" if regression else "classification",
        metrics=(metric, *others),
        trained_steps=1,
        columns={
            metric.name: table,
            **{other.name: table / 100 for other in others},
            "loss": np.where(failed, math.nan, 1.0),
        },
        failed=failed,
        episode_digest=digest,
        classes=drawn_classes(len(score), classes) if classes else None,
    )
    facts = {
        "recipe_hash": run.recipe().hash,
        "norm": run.recipe().model.norm,
        "checkpoint": {"step": checkpoint, "params_sha256": f"{checkpoint % 16:x}" * 64},
    }
    write_evaluation(run.evaluation, result, facts)


def compared_run(
    root: Path,
    name: str,
    *overrides: str,
    score: NDArray[np.float64] | None = None,
    regression: bool = False,
    status: str = "finished",
    digest: str = "e" * 64,
    speed: float = 50.0,
    workers: int = 2,
    classes: int = 0,
    metric: Metric | None = None,
    others: Sequence[Metric] = (),
    **info: Any,
) -> RunDir:
    """A run under ``root`` with a log of 100 steps and results of its main protocol."""
    text = FUNCTIONS if regression else IMAGES.format(ways=5, shots=1, norm="transductive")
    settings = ("outer.steps=100", "outer.batch=4", *overrides)
    recipe = parse_recipe(text, name, settings)
    facts = {
        "dataset": {"name": recipe.data.dataset, "split": "", "digest": "d" * 64},
        "versions": {"metadist": "0.1.0", "torch": "2.13.0"},
        "learner": {**LEARNER, "parameters": 1234},
        "mlflow": None,
        "result": None,
    }
    run = create_run(root, name, recipe, {**facts, **info})
    attempt = run.claim(
        {"world_size": workers, "numerics": {"torch": "2.13.0"}, "bits": "verified"}
    )
    attempt.record(from_step=0)
    writer = LogWriter(attempt)
    measure = (metric or (MSE if regression else ACCURACY)).name
    for step in range(10, 101, 10):
        writer.add(step, {"perf/tasks_per_second": speed, "train/loss": 1 / step})
        if step % 20 == 0:
            writer.add(step, {f"val/{measure}": step / 200})
    writer.flush()
    given = scores(0.6) if score is None else score
    main = f"test-{recipe.eval.queries}q"
    how: dict[str, Any] = {"digest": digest, "regression": regression, "classes": classes}
    write_scores(run, given, name=main, metric=metric, others=others, **how)
    run.update(status=status, result={"best_step": 80, "tasks_per_second": speed})
    return run
