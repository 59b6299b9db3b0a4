"""``metadist evaluate``."""

from __future__ import annotations

from typing import Any

import click

from metadist import api
from metadist.cli import completion, options


@click.command()
@click.argument("run", nargs=-1, required=True, shell_complete=completion.runs)
@click.option(
    "--part", type=click.Choice(["test", "val"]), default="test", help="Whose classes or functions."
)
@options.count("--ways", 2, "Classes of an episode, where the learner can.")
@options.count("--shots", 1, "Support examples per class, or support points.")
@options.count("--queries", 1, "Query examples per class, or query points.")
@options.count("--steps", 0, "Adaptation steps; the figure is after so many.")
@options.count("--episodes", 1, "Tasks.", large=True)
@options.count("--seed", 0, "Of the episodes. Default: the recipe's eval.seed.")
@options.text(
    "--average",
    "HOW",
    "What an ensemble averages. Of classifiers probabilities (the default) or logits.",
)
@options.text(
    "--out", "DIR", "Where an ensemble's results go. Default: ensembles/ in the runs directory."
)
@options.of_a_run
def evaluate(run: tuple[str, ...], as_json: bool, **arguments: Any) -> None:
    """Evaluate the best checkpoint of RUN anew on its fixed test episodes.

    RUN is a name under the runs directory or a path. The checkpoint is the one that was best on
    validation classes; test classes never choose it.

    Ways, shots, queries, steps, episodes and seed are those of the recipe unless you say otherwise;
    results under another protocol get files of their own. Ways can change where no parameter
    depends on their number, as the last layer of a classifier does.

    Of images, the number of classes is told, and a second interval that counts them as drawn: what
    the figure says of classes that are not among them.

    Several RUNs are an ensemble: each adapts to the same episodes, and what they predict is
    averaged.
    """
    if len(run) == 1 and (arguments["average"] or arguments["out"]):
        raise click.UsageError("--average and --out are about ensembles: name several runs")
    result = api.evaluate(run[0] if len(run) == 1 else run, **arguments)
    options.show(result.lines(curves=True), result.to_dict(), as_json)
