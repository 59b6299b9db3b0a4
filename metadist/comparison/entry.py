"""One of the runs that are compared, read from its directory and checked."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from metadist.errors import RunError
from metadist.recipe.schema import Recipe
from metadist.runs.log import series
from metadist.runs.readers.compute_cost import Cost, meta_learns, training_cost
from metadist.runs.readers.evaluations import (
    StoredEvaluation,
    evaluation_names,
    own_names,
    read_evaluation,
)
from metadist.runs.record import UNREADABLE
from metadist.runs.run_dir import RunDir
from metadist.statistics.paired import Rows


@dataclass(frozen=True)
class Entry:
    """A finished run.

    Attributes:
        label: unique among those that are compared: its name, or its path.
        attempt: what its latest attempt has recorded of itself.
        protocol: its results on the episodes that are compared, with the score of each.
        validation: (outer step, score) in order.
    """

    label: str
    run: RunDir
    info: Mapping[str, Any]
    recipe: Recipe
    attempt: Mapping[str, Any]
    protocol: StoredEvaluation
    validation: tuple[tuple[int, float], ...]
    cost: Cost

    @property
    def rows(self) -> Rows:
        """The score of each episode, after the steps that the protocol's figure is about."""
        assert self.protocol.rows is not None
        return self.protocol.rows

    @property
    def learner(self) -> Mapping[str, Any]:
        """What run.json says of the learner; empty in a damaged one."""
        found = self.info.get("learner")
        return found if isinstance(found, Mapping) else {}

    @property
    def shots(self) -> int:
        """Support examples of the protocol's episodes."""
        return self._asked("shot") or self.recipe.eval_shots

    @property
    def ways(self) -> int:
        """Classes of the protocol's episodes; 0 of functions."""
        return self._asked("way") or self.recipe.eval_ways

    def _asked(self, what: str) -> int:
        """What the protocol's name says; 0 if nothing."""
        found = re.search(rf"-(\d+){what}-", f"{self.protocol.name}-")
        return int(found[1]) if found else 0

    @property
    def best_step(self) -> int:
        """Outer steps of training before the checkpoint; 0 where nothing is meta-learned."""
        return self.protocol.checkpoint_step if self.learns else 0

    @property
    def learns(self) -> bool:
        """Whether the learner meta-learns."""
        return meta_learns(self.info)


def protocols_of(run: RunDir) -> list[str]:
    """Names of the protocols that a run has results of, its recipe's own first.

    Raises:
        RunError: it has not finished, or is damaged.
    """
    status = run.info().get("status")
    if status != "finished":
        raise RunError(
            f"{run.path}: not finished (its status is {status!r}); let it end, or go on with "
            f"--resume {run.name}"
        )
    there = evaluation_names(run)
    own = [name for name in own_names(run.recipe()) if name in there]
    if not there:
        raise RunError(f"{run.path}: no results; make them with 'metadist evaluate {run.name}'")
    return own + [name for name in there if name not in own]


def shared_protocol(names: Sequence[tuple[str, Sequence[str]]], asked: str | None) -> str:
    """The protocol to compare by.

    Args:
        names: label of each run, and the protocols that it has results of.
        asked: for; the first that all have if None.

    Raises:
        RunError: not all have it, or they share none.
    """
    if asked is not None:
        for label, there in names:
            if asked not in there:
                raise RunError(
                    f"{label}: no results of protocol {asked!r}; there are: {', '.join(there)}"
                )
        return asked
    for name in names[0][1]:
        if all(name in there for _, there in names):
            return name
    listed = "; ".join(f"{label}: {', '.join(there)}" for label, there in names[:10])
    raise RunError(
        f"the runs have no results of one protocol in common ({listed}); evaluate them alike, as "
        "with 'metadist evaluate RUN --queries 15'"
    )


def shared_metric(entries: Sequence[Entry]) -> None:
    """See that runs are decided by the same metric; raises RunError, with those they share."""
    kinds = {entry.protocol.metric.name: entry.label for entry in entries}
    if len(kinds) <= 1:
        return
    measured = [entry.protocol.of_each_episode for entry in entries]
    shared = [name for name in measured[0] if all(name in own for own in measured)]
    mend = "compare them apart, for they have no metric in common"
    if shared:
        mend = f"choose one that all have, with --metric (metric=): {', '.join(shared)}"
    listed = ", ".join(f"{label}: {kind}" for kind, label in kinds.items())
    raise RunError(f"the runs do not measure the same ({listed}); {mend}")


def read_entry(run: RunDir, label: str, name: str, metric: str | None = None) -> Entry:
    """Read a finished run.

    Args:
        name: of the protocol to compare by.
        metric: to compare by; None: the one that decides.

    Raises:
        RunError: something is missing or damaged, or its results do not belong together.
    """
    try:
        info, recipe = run.info(), run.recipe()
        if info["recipe_hash"] != recipe.hash:
            raise RunError(f"{run.path}: recipe.toml is not the recipe that run.json names")
        number = run.latest_attempt()
        attempt = run.attempt_facts(number) if number else {}
        points = series(run)
        cost = training_cost(run, recipe)
    except RunError:
        raise
    except UNREADABLE as error:
        raise RunError(f"{run.path}: damaged ({type(error).__name__}: {error})") from None
    protocol = _protocol(run, name, metric)
    main = own_names(recipe)[0]
    if name != main and (run.evaluation / f"{main}.json").is_file():
        first = _protocol(run, main)
        if protocol.checkpoint_sha256 != first.checkpoint_sha256:
            raise RunError(
                f"{run.evaluation / name}.json: of the checkpoint of step "
                f"{protocol.checkpoint_step}, {main}.json is of step {first.checkpoint_step}; "
                "evaluate the run again by that protocol"
            )
    found = points.get(f"val/{protocol.metric.name}", [])
    validation = tuple((p.step, p.value) for p in found)
    return Entry(label, run, info, recipe, attempt, protocol, validation, cost)


def _protocol(run: RunDir, name: str, metric: str | None = None) -> StoredEvaluation:
    """Results with their scores, which must be those that the figures were made of."""
    notes: list[str] = []
    try:
        protocol = read_evaluation(run, name, notes, metric)
    except RunError as error:
        raise RunError(f"{run.path}: {error}") from None
    if protocol is None or protocol.rows is None or notes:
        why = " ".join(notes)
        raise RunError(f"{run.path}: {why} Make it again with 'metadist evaluate {run.name}'")
    finite = protocol.rows.score[np.isfinite(protocol.rows.score)]
    mean = math.fsum(finite / len(finite)) if len(finite) else math.nan
    told = protocol.figure.mean
    same = math.isclose(mean, told, rel_tol=1e-6, abs_tol=1e-12)
    if not same and not (math.isnan(mean) and math.isnan(told)):
        raise RunError(
            f"{run.evaluation / name}.parquet: its mean is {mean:.6g}, {name}.json says "
            f"{told:.6g}; they do not belong together. Make them again with 'metadist evaluate "
            f"{run.name}'"
        )
    return protocol
