"""The table of facts: what somebody needs to trust a run, or to repeat it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from metadist.report.phrases import plural
from metadist.runs.readers.run_data import RunData
from metadist.statistics.classes import of_classes

Facts = Mapping[str, Any]
_SHARE = "{:.1f} % of the time"


def facts(data: RunData) -> dict[str, Facts]:
    """What identifies a run, in groups."""
    return {
        "Run": _run(data),
        "Checkpoint": _checkpoint(data),
        "Data": _data(data),
        "Learner": _learner(data),
        "Versions": _mapping(data.info.get("versions")),
    }


def wide_facts(data: RunData) -> dict[str, Facts]:
    """The groups whose values are long."""
    return {
        "Plugins": _mapping(data.info.get("plugins")),
        "Numerics": _numerics(data),
        "Digests (SHA-256)": _digests(data),
    }


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _run(data: RunData) -> Facts:
    info, result = data.info, data.result()
    speed, wait = result.get("tasks_per_second"), result.get("data_wait")
    mlflow = _mapping(info.get("mlflow"))
    return {
        "created": _moment(info.get("created")),
        "status": info.get("status"),
        "outer steps": f"{data.steps_done:,}",
        "attempts": len(data.attempts),
        "workers": ", ".join(str(a.get("world_size")) for a in data.attempts),
        "restarts": result.get("restarts"),
        "steps done twice": _rounded(_last(data, "perf/steps_redone"), "{:,.0f}"),
        "seconds lost": _rounded(_last(data, "perf/seconds_lost"), "{:,.1f}"),
        "tasks per second": _rounded(speed, "{:,.1f}"),
        "waiting for data": _rounded(wait, _SHARE, 100),
        "time in engine": _rounded(_last(data, "perf/engine"), _SHARE, 100),
        "MLflow run": mlflow.get("run_id"),
        "experiment": mlflow.get("experiment"),
    }


def _moment(value: Any) -> str | None:
    try:
        return f"{datetime.fromisoformat(value).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    except (TypeError, ValueError):
        return None if value is None else str(value)


def _last(data: RunData, metric: str) -> float | None:
    points = data.series.get(metric)
    return points[-1].value if points else None


def _rounded(value: Any, form: str, factor: int = 1) -> str | None:
    return form.format(factor * value) if isinstance(value, int | float) else None


def _data(data: RunData) -> Facts:
    dataset = _mapping(data.info.get("dataset"))
    facts: dict[str, Any] = {
        "dataset": dataset.get("name"),
        "split": dataset.get("split"),
        "licence": dataset.get("licence"),
    }
    if data.recipe:
        section = data.recipe.data
        facts["tasks"] = (
            f"{plural(section.shots, 'shot')}, {plural(section.queries, 'query')}"
            if data.functions
            else f"{plural(section.ways, 'way')}, {plural(section.shots, 'shot')}, "
            f"{plural(section.queries, 'query')} per class"
        )
        facts["training episodes"] = section.episodes
        evaluation, run = data.recipe.eval.seed, data.recipe.run.seed
        facts["seeds"] = f"data {section.seed}, evaluation {evaluation}, run {run}"
    for protocol in data.protocols:
        known = protocol.classes.told() if protocol.classes else {}
        of = of_classes(known, labels=protocol.labels)
        episodes = plural(protocol.episodes, "episode")
        facts[protocol.name] = f"{episodes}{of}, {protocol.failed} failed"
    return facts


def _learner(data: RunData) -> Facts:
    learner = _mapping(data.info.get("learner"))
    order = learner.get("derivative_order")
    words = {0: "0 (no gradient)", 1: "1 (first order)", 2: "2 (through the adaptation)"}
    facts: dict[str, Any] = {
        "algorithm": learner.get("algorithm"),
        "derivative order": words.get(order, order) if isinstance(order, int) else order,
        "estimator": learner.get("estimator"),
        "objective": data.protocols[0].objective if data.protocols else None,
        "told of a task": learner.get("needs"),
        "normalisation": learner.get("norm"),
        "parameters": _rounded(learner.get("parameters"), "{:,}"),
    }
    if data.recipe:
        recipe = data.recipe
        facts |= {
            "backbone": recipe.model.name,
            "inner": f"{plural(recipe.inner.steps, 'step')} of {recipe.inner.lr:g}, "
            f"loss {recipe.inner.loss}",
            "outer": f"{recipe.outer.optimizer}, {recipe.outer.lr:g}, {recipe.outer.schedule}",
            "reduction": recipe.engine.reduction,
        }
    return facts


def _checkpoint(data: RunData) -> Facts:
    if not data.protocols or data.untrained:
        return {}
    metric = data.protocols[0].metric
    rule = f"{'highest' if metric.higher_is_better else 'lowest'} {metric.title}"
    return {
        "evaluated": f"step {data.protocols[0].checkpoint_step:,}",
        "chosen by": f"{rule} on validation episodes",
        "last step": f"{data.steps_done:,}",
    }


def _digests(data: RunData) -> Facts:
    facts: dict[str, Any] = {
        "recipe": data.info.get("recipe_hash"),
        "dataset": _mapping(data.info.get("dataset")).get("digest"),
    }
    for protocol in data.protocols:
        facts[f"episodes {protocol.name}"] = protocol.episode_digest
        first = data.protocols[0].checkpoint_sha256
        differs = "" if protocol.checkpoint_sha256 == first else f" {protocol.name}"
        facts[f"evaluated parameters{differs}"] = protocol.checkpoint_sha256
    facts["final parameters"] = data.result().get("params_sha256")
    return facts


def _numerics(data: RunData) -> Facts:
    numerics = _mapping(data.info.get("numerics"))
    if not numerics and data.attempts:
        numerics = _mapping(data.attempts[-1].get("numerics"))
    if data.attempts or numerics:
        numerics["bits"] = "unverified" if data.unverified else "verified"
    return numerics
