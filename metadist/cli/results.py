"""A run's result in words, for people who do not read JSON."""

from __future__ import annotations

import json
from typing import Any

import click


def show(result: dict[str, Any], *, as_json: bool) -> None:
    """Print a result: words, and as last line JSON if asked for."""
    for line in words(result):
        click.echo(line, err=as_json)
    if as_json:
        click.echo(json.dumps(result, allow_nan=False))


def words(result: dict[str, Any]) -> list[str]:
    """The figures of a result."""
    score = "accuracy" if "accuracy" in result else "mse"
    value, ci = result[score], result["ci95"] or 0.0
    if value is None:
        main, others = "no episode had a finite result", []
    elif score == "accuracy":
        main = f"accuracy {100 * value:.2f} % ± {100 * ci:.2f} %"
        others = [
            f"with {key.removeprefix('accuracy_').removesuffix('q')} queries per class: "
            f"{100 * result[key]:.2f} %"
            for key in result
            if key.startswith("accuracy_") and result[key] is not None
        ]
    else:
        main = f"mean squared error {value:.4f} ± {ci:.4f}"
        others = [
            f"with {key.removeprefix('mse_').removesuffix('q')} query points: {result[key]:.4f}"
            for key in result
            if key.startswith("mse_") and result[key] is not None
        ]
    failed = f", {result['failed']} failed" if result["failed"] else ""
    return [
        f"{result['run']}: {main} on {result['episodes']} test episodes{failed} "
        f"(95 % confidence; checkpoint of step {result['best_step']} of {result['steps']})",
        *others,
    ]
