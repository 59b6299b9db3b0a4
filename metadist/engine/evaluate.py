"""Accuracy or error on fixed episodes of classes the learner has never seen.

Episodes are spread over the workers; each is computed alone, so the result is the same byte for
byte for any number of them. An episode whose outputs are not finite counts as failed: accuracy 0,
and in regression it is counted beside the mean over the rest.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_pipeline.datasets import Part
from data_pipeline.episodes import EpisodeSource
from data_pipeline.storage import write_atomic
from metadist.algorithms import Algorithm
from metadist.engine.group import Group
from metadist.engine.learner import context, episode_key
from metadist.recipe import Recipe
from metadist.rules.losses import accuracy, task_loss
from metadist.tasks import Context, Params, Task, TaskKind, to_tasks

#: Episodes drawn from the source at once.
_CHUNK = 8
Score = Literal["accuracy", "mse"]


@dataclass(frozen=True)
class Evaluation:
    """Results on E episodes after 0 to K adaptation steps.

    Attributes:
        score: float64 [E, K + 1]: accuracy (0 where failed) or mean squared error (NaN where
            failed).
        loss: float64 [E, K + 1], NaN where not finite.
        failed: bool [E, K + 1]: an output was not finite.
        episode_digest: what decides the bits of the episodes.
    """

    part: Part
    queries: int
    kind: TaskKind
    trained_steps: int
    score: NDArray[np.float64]
    loss: NDArray[np.float64]
    failed: NDArray[np.bool_]
    episode_digest: str

    @property
    def score_name(self) -> Score:
        """What is measured."""
        return "accuracy" if self.kind == "classification" else "mse"

    @property
    def name(self) -> str:
        """The protocol: part and queries per class."""
        return f"{self.part}-{self.queries}q"

    def at(self, step: int) -> dict[str, float]:
        """Mean, 95 % confidence half-width and worst decile after ``step`` adaptation steps.

        The interval is 1.96 standard deviations (over episodes, ddof 0) over the root of their
        number. The worst decile is the mean over the worst tenth of the episodes.
        """
        column = self.score[:, step]
        kept = column[~self.failed[:, step]] if self.kind == "regression" else column
        if not len(kept):
            return {"mean": math.nan, "ci95": math.nan, "worst_decile": math.nan, "loss": math.nan}
        ordered = np.sort(kept)
        tenth = max(1, len(kept) // 10)
        worst = ordered[:tenth] if self.kind == "classification" else ordered[-tenth:]
        losses = self.loss[~self.failed[:, step], step]
        return {
            "mean": math.fsum(kept) / len(kept),
            # One episode says nothing of its spread.
            "ci95": 1.96 * float(kept.std()) / math.sqrt(len(kept)) if len(kept) > 1 else math.nan,
            "worst_decile": math.fsum(worst) / tenth,
            "loss": math.fsum(losses) / len(losses) if len(losses) else math.nan,
        }

    def summary(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """What ``evaluation/<name>.json`` holds; no times, places or numbers of workers."""
        final = self.trained_steps if self.trained_steps < self.score.shape[1] else -1
        return {
            "part": self.part,
            "queries": self.queries,
            "kind": self.kind,
            "score": self.score_name,
            "episodes": len(self.score),
            "failed": int(self.failed[:, final].sum()),
            "failed_by_step": [int(n) for n in self.failed.sum(0)],
            "episode_digest": self.episode_digest,
            "trained_steps": self.trained_steps,
            "by_step": [
                {"step": k, **{n: finite(v) for n, v in self.at(k).items()}}
                for k in range(self.score.shape[1])
            ],
            **facts,
        }


def finite(value: float) -> float | None:
    """The value, or None where there is none: JSON has no NaN."""
    return value if math.isfinite(value) else None


def score_episode(
    algorithm: Algorithm, params: Params, task: Task, ctx: Context, kind: TaskKind
) -> list[tuple[float, float, bool]]:
    """(score, loss, failed) after each adaptation step of one episode."""
    rows = []
    for fitted in algorithm.adapt(params, task.support_x, task.support_y, ctx):
        outputs = algorithm.predict(fitted, task.query_x, ctx)
        targets = task.query_y.double() if kind == "regression" else task.query_y
        loss = float(task_loss(kind, outputs.double(), targets))
        failed = not (bool(torch.isfinite(outputs).all()) and math.isfinite(loss))
        if kind == "classification":
            score = 0.0 if failed else float(accuracy(outputs.double(), task.query_y))
        else:
            score = math.nan if failed else loss
        rows.append((score, math.nan if failed else loss, failed))
    return rows


def evaluate(
    algorithm: Algorithm,
    params: Params,
    state: Mapping[str, Tensor],
    source: EpisodeSource,
    count: int,
    recipe: Recipe,
    kind: TaskKind,
    group: Group,
    device: torch.device,
) -> Evaluation:
    """Adapt to and score episodes 0 to ``count - 1`` of ``source``, spread over the workers."""
    part = source.identity.part
    ctx = replace(context(recipe, part, recipe.outer.steps), state=state)
    dtype = getattr(torch, recipe.engine.dtype)
    table = torch.zeros(count, ctx.inner_steps + 1, 3, dtype=torch.float64)
    first, last = group.rank * count // group.size, (group.rank + 1) * count // group.size
    with torch.no_grad():
        for start in range(first, last, _CHUNK):
            ids = range(start, min(start + _CHUNK, last))
            tasks = to_tasks(source.episodes(ids), dtype, device)
            for row, index in enumerate(ids):
                draws = algorithm.draws(episode_key(recipe, part, 0, index), ctx)
                rows = score_episode(
                    algorithm, params, tasks.task(row), ctx.with_draws(draws), kind
                )
                table[index] = torch.tensor(rows, dtype=torch.float64)
    # One worker wrote each row and the others hold zeros: the sum of the bit patterns is exact.
    bits = table.view(torch.int64)
    group.sum_(bits)
    numbers = table.numpy()
    return Evaluation(
        part=part,
        queries=source.identity.spec.queries,
        kind=kind,
        trained_steps=recipe.inner.steps,
        score=numbers[:, :, 0],
        loss=numbers[:, :, 1],
        failed=numbers[:, :, 2] > 0,
        episode_digest=source.identity.digest,
    )


def write_evaluation(directory: Path, result: Evaluation, facts: Mapping[str, Any]) -> None:
    """``<part>-<queries>q.json`` and ``.parquet``: figures, and a row per episode and step."""
    episodes, steps = result.score.shape
    table = pa.table(
        {
            "episode": pa.array(np.repeat(np.arange(episodes), steps), pa.int64()),
            "step": pa.array(np.tile(np.arange(steps), episodes), pa.int64()),
            result.score_name: pa.array(result.score.reshape(-1), pa.float64()),
            "loss": pa.array(result.loss.reshape(-1), pa.float64()),
            "failed": pa.array(result.failed.reshape(-1), pa.bool_()),
        }
    )
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
    write_atomic(directory / f"{result.name}.parquet", buffer.getvalue().to_pybytes())
    summary = json.dumps(result.summary(facts), sort_keys=True, indent=1, allow_nan=False)
    write_atomic(directory / f"{result.name}.json", summary.encode())


def write_examples(
    directory: Path,
    algorithm: Algorithm,
    params: Params,
    state: Mapping[str, Tensor],
    source: EpisodeSource,
    count: int,
    recipe: Recipe,
    device: torch.device,
) -> None:
    """``examples.safetensors``: a few episodes with the outputs after every adaptation step.

    ids [E], support_x, support_y, query_x, query_y as in a task, outputs [E, K + 1, Q, N].
    Queries of functions are sorted by their first input so that they draw as lines.
    """
    part = source.identity.part
    ctx = replace(context(recipe, part, recipe.outer.steps), state=state)
    dtype = getattr(torch, recipe.engine.dtype)
    tasks = to_tasks(source.episodes(range(count)), dtype, device)
    tensors: dict[str, list[Tensor]] = {}
    with torch.no_grad():
        for index in range(count):
            task = tasks.task(index)
            if task.query_x.dim() == 2:
                order = task.query_x[:, 0].argsort(stable=True)
                task = replace(task, query_x=task.query_x[order], query_y=task.query_y[order])
            draws = algorithm.draws(episode_key(recipe, part, 0, index), ctx)
            now = ctx.with_draws(draws)
            outputs = torch.stack(
                [
                    algorithm.predict(fitted, task.query_x, now)
                    for fitted in algorithm.adapt(params, task.support_x, task.support_y, now)
                ]
            )
            for name in ("support_x", "support_y", "query_x", "query_y"):
                tensors.setdefault(name, []).append(getattr(task, name))
            tensors.setdefault("outputs", []).append(outputs)
    stacked = {name: torch.stack(parts).cpu().contiguous() for name, parts in tensors.items()}
    stacked["ids"] = torch.tensor(tasks.ids)
    write_atomic(directory / "examples.safetensors", safetensors.torch.save(stacked))
