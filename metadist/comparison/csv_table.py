"""A comparison as CSV: one row for each run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

#: Of each run, by the names that the result has for them.
_OWN = (
    "episodes", "failed", "adaptation_steps", "algorithm", "derivative_order", "estimator",
    "parameters", "best_step", "steps", "tasks_per_step", "tasks", "seconds", "worker_seconds",
)  # fmt: skip


def to_csv(result: Mapping[str, Any]) -> str:
    """Figures, differences to the baseline, costs, and every field in which the runs differ.

    Numbers have all their digits; what there is not is empty.
    """
    rows = [_row(result, run) for run in result["runs"]]
    # A run may lack a metric that another has. Whole numbers stay whole beside what is missing.
    table = pd.DataFrame(rows, dtype=object)
    return str(table.to_csv(index=False, lineterminator="\n"))


def _row(result: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
    paired = run["difference"] or {}
    baseline = run["difference"] is None
    classes = {
        "classes": run.get("classes"),
        "ci95_classes": run.get("ci95_classes"),
        "difference_ci95_classes": paired.get("ci95_classes"),
        "verdict_classes": paired.get("verdict_classes"),
    }
    return {
        "run": run["run"],
        "path": run["path"],
        "protocol": result["protocol"],
        result["score"]: run[result["score"]],
        "ci95": run["ci95"],
        **{name: own["mean"] for name, own in run.get("metrics", {}).items()},
        "baseline": result["baseline"],
        "difference": paired.get("mean"),
        "difference_ci95": paired.get("ci95"),
        "pairs": paired.get("episodes"),
        "left_out": paired.get("left_out"),
        "verdict": "baseline" if baseline else paired.get("verdict", "not paired"),
        **(classes if "classes" in run else {}),  # functions have none
        "not_paired": paired.get("not_paired"),
        **{name: run[name] for name in _OWN},
        **{name: values[run["run"]] for name, values in result["differences"].items()},
    }
