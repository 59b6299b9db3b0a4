"""Runs made up for tests of the report: logs, evaluations and examples without any training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ended_runs import SINUSOIDS
from safetensors.numpy import save_file

from metadist.evaluation.evaluation import Evaluation
from metadist.evaluation.evaluator import write_evaluation
from metadist.evaluation.protocols import EvalPart, EvalProtocol
from metadist.objectives import ACCURACY, MSE, Metric
from metadist.recipe.schema import Recipe, parse_recipe
from metadist.runs.listing import create_run
from metadist.runs.log import LogWriter
from metadist.runs.run_dir import RunDir
from metadist.statistics.classes import EpisodeClasses

IMAGES = """
[data]
dataset = "strokes"
ways = {ways}
shots = {shots}
queries = 1
[model]
name = "conv4"
norm = "{norm}"
[algorithm]
name = "maml"
[inner]
lr = 0.4
steps = 1
[outer]
steps = 300
"""

FUNCTIONS = f"""{SINUSOIDS}
[algorithm]
name = "fomaml"
[eval]
queries = 10
extra_queries = 100
"""

LEARNER = {"algorithm": "maml", "derivative_order": 2, "estimator": "exact", "norm": "transductive"}


def image_recipe(ways: int = 5, shots: int = 1, norm: str = "transductive") -> Recipe:
    return parse_recipe(IMAGES.format(ways=ways, shots=shots, norm=norm))


def function_recipe() -> Recipe:
    return parse_recipe(FUNCTIONS)


def make_run(root: Path, recipe: Recipe, name: str = "demo", **info: Any) -> RunDir:
    facts = {
        "dataset": {"name": recipe.data.dataset, "digest": "d" * 64, "licence": "Apache-2.0"},
        "versions": {"metadist": "0.1.0", "torch": "2.13.0"},
        "learner": LEARNER,
        "mlflow": {"tracking_uri": "http://user:secret@host", "run_id": "f" * 32},
        "result": None,
    }
    return create_run(root, name, recipe, {**facts, **info})


def write_log(run: RunDir, steps: int, *, bits: str = "verified", accuracy: bool = True) -> None:
    rng = np.random.default_rng(0)
    attempt = run.claim({"world_size": 2, "numerics": {"torch": "2.13.0"}, "bits": bits})
    writer = LogWriter(attempt)
    for step in range(1, steps + 1):
        value = 0.3 + 0.5 * step / steps + 0.02 * rng.standard_normal()
        metrics = {"train/loss": 2.0 - value}
        if accuracy:
            metrics["train/accuracy"] = value
        writer.add(step, metrics)
        if step % 50 == 0:
            score = {"val/accuracy": value} if accuracy else {"val/mse": 2.0 - value}
            writer.add(step, {**score, "val/loss": 2.0 - value, "perf/engine": 0.97})
    writer.flush()


def write_results(
    run: RunDir,
    queries: int,
    *,
    regression: bool = False,
    failed: int = 0,
    name: str = "",
    shots: int = 1,
    figure_step: int = 1,
    checkpoint: int = 250,
    classes: EpisodeClasses | None = None,
    metric: Metric | None = None,
    others: Sequence[Metric] = (),
    pooled: Mapping[str, float] | None = None,
) -> None:
    """Results of a protocol.

    Args:
        metric: what the score is, if it is none of the two that are built in.
        others: further metrics; each is a hundredth of the score.
        pooled: what is no mean over episodes, alike after every number of steps.
    """
    rng = np.random.default_rng(queries)
    episodes, steps = 60, 4
    gain = np.array([0.2, 0.8, 0.82, 0.83])
    if regression:
        score = rng.gamma(2.0, 0.5, (episodes, steps)) * (3.0 - 3 * gain)[None]
    else:
        score = np.clip(gain[None] + 0.1 * rng.standard_normal((episodes, steps)), 0, 1)
    bad = np.zeros((episodes, steps), dtype=bool)
    bad[:failed] = True
    score[bad] = math.nan if regression else 0.0
    name = name or f"test-{queries}q"
    part: EvalPart = "val" if name.startswith("val") else "test"
    metric = metric or (MSE if regression else ACCURACY)
    further = {other.name: score / 100 for other in others}
    result = Evaluation(
        protocol=EvalProtocol(name, part, shots, queries, episodes, 0, steps - 1, figure_step),
        kind="regression" if regression else "classification",
        metrics=(metric, *others),
        trained_steps=1,
        columns={
            metric.name: score,
            **further,
            "loss": np.where(bad, math.nan, 1.0 - score / 2),
        },
        failed=bad,
        episode_digest="e" * 64,
        pooled=[pooled or {}] * steps,
        classes=classes,
    )
    recipe = run.recipe()
    facts = {
        "recipe_hash": recipe.hash,
        "norm": recipe.model.norm,
        "checkpoint": {"step": checkpoint, "params_sha256": f"{checkpoint % 16:x}" * 64},
    }
    write_evaluation(run.evaluation, result, facts)


def write_image_examples(run: RunDir, channels: int = 1, queries: int = 4) -> None:
    rng = np.random.default_rng(1)
    data = run.recipe().data
    ways, shots, side, count = data.ways, data.shots, 12, 6
    support_y = np.tile(np.repeat(np.arange(ways), shots), (count, 1))
    query_y = np.stack([rng.permutation(np.repeat(np.arange(ways), queries)) for _ in range(count)])
    logits = rng.standard_normal((count, 3, ways * queries, ways))
    # After adaptation nine in ten are right.
    sure = rng.random(query_y.shape) < 0.9
    logits[:, 1:] += 9.0 * sure[:, None, :, None] * np.eye(ways)[query_y][:, None]
    logits[0, 1, 0] = math.nan
    tensors: dict[str, Any] = {
        "ids": np.arange(count),
        "support_x": rng.random((count, ways * shots, channels, side, side)).astype(np.float32),
        "support_y": support_y,
        "query_x": rng.random((count, ways * queries, channels, side, side)).astype(np.float32),
        "query_y": query_y,
        "outputs": logits.astype(np.float32),
    }
    save_file(tensors, run.evaluation / "examples.safetensors")


def write_function_examples(run: RunDir) -> None:
    x = np.linspace(-5, 5, 40, dtype=np.float32)[None, :, None].repeat(6, 0)
    phase = np.arange(6, dtype=np.float32)[:, None, None]
    outputs = np.stack([0.2 * np.sin(x), 0.8 * np.sin(x + phase), np.sin(x + phase)], 1)
    tensors = {
        "ids": np.arange(6),
        "support_x": np.ascontiguousarray(x[:, ::4]),
        "support_y": np.ascontiguousarray(np.sin(x + phase)[:, ::4]),
        "query_x": x,
        "query_y": np.sin(x + phase),
        "outputs": outputs,
    }
    save_file(tensors, run.evaluation / "examples.safetensors")


def finished_run(root: Path, recipe: Recipe | None = None, channels: int = 1) -> RunDir:
    run = make_run(root, recipe or image_recipe())
    write_log(run, 300)
    for queries in (1, 15):
        write_results(run, queries)
    write_image_examples(run, channels)
    result = {"best_step": 250, "params_sha256": "a" * 64, "tasks_per_second": 231.4}
    run.update(status="finished", result={**result, "data_wait": 0.012, "restarts": 0})
    return run
