"""What a run directory says of a run. What is missing or damaged is noted, never a crash."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from data_pipeline import functions
from data_pipeline.errors import DataError
from metadist.errors import MetadistError
from metadist.objectives import Metric
from metadist.recipe.schema import Recipe
from metadist.runs.attempts import Span, history
from metadist.runs.log import Point, series
from metadist.runs.readers.compute_cost import meta_learns
from metadist.runs.readers.diagnostics import FILE as DIAGNOSTICS
from metadist.runs.readers.diagnostics import Diagnostics, read_diagnostics
from metadist.runs.readers.evaluations import (
    StoredEvaluation,
    described_in,
    evaluation_names,
    own_names,
    read_evaluation,
)
from metadist.runs.record import UNREADABLE
from metadist.runs.run_dir import RunDir

log = logging.getLogger(__name__)

Arrays = dict[str, NDArray[Any]]


@dataclass
class RunData:
    """A run as its directory stands.

    Attributes:
        spans: what became of the attempts; empty if that cannot be told.
        protocols: results on fixed episodes: the recipe's own protocols, its main one first, then
            others that were asked for.
        examples: tensors of ``evaluation/examples.safetensors``; None if there are none.
        diagnostics: numbers that explain the run; None if there are none.
        notes: what could not be read, in sentences.
    """

    name: str
    info: dict[str, Any]
    recipe: Recipe | None
    attempts: list[dict[str, Any]]
    series: dict[str, list[Point]]
    spans: list[Span] = field(default_factory=list)
    protocols: list[StoredEvaluation] = field(default_factory=list)
    examples: Arrays | None = None
    diagnostics: Diagnostics | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def functions(self) -> bool:
        """Whether tasks are functions, whose values are predicted; else they have classes."""
        if self.recipe is None:
            return bool(self.protocols) and not self.protocols[0].labels
        return self.recipe.data.ways == 0

    @property
    def metric(self) -> Metric | None:
        """What is measured: that of the results, or before there are any that of validation."""
        if self.protocols:
            return self.protocols[0].metric
        names = [n.removeprefix("val/") for n in self.series if n.startswith("val/")]
        return next(map(self.described, (n for n in names if n not in ("loss", "failed"))), None)

    def described(self, name: str) -> Metric:
        """A metric of the log, as run.json says what it is."""
        return described_in(self.info, name)

    @property
    def own(self) -> list[StoredEvaluation]:
        """The recipe's own protocols; whatever there is if there are none of them."""
        return [p for p in self.protocols if self.owns(p)] or self.protocols

    def owns(self, protocol: StoredEvaluation) -> bool:
        """Whether it is one of the recipe's; others were asked for later."""
        return self.recipe is None or protocol.name in own_names(self.recipe)

    @property
    def steps_done(self) -> int:
        """Outer steps in the log."""
        return max((p.step for p in self.series.get("train/loss", [])), default=0)

    @property
    def floor(self) -> float | None:
        """The zero-shot floor of the functions that are learned, where it is known."""
        if self.recipe is None or self.recipe.data.ways:
            return None
        try:
            return functions.load(self.recipe.data.dataset).SPEC.floor
        except DataError:
            return None  # a family from outside that is not at hand

    @property
    def untrained(self) -> bool:
        """Whether the learner does not meta-learn: it takes no outer steps."""
        return not meta_learns(self.info)

    @property
    def without_network(self) -> bool:
        """Whether there is nothing to normalise: no network, as in nearest neighbours on pixels."""
        learner = self.info.get("learner")
        return self.untrained and isinstance(learner, dict) and learner.get("derivative_order") == 0

    @property
    def unverified(self) -> bool:
        """Whether the run was continued under other numerics."""
        return any(facts.get("bits") == "unverified" for facts in [*self.attempts, self.info])

    def result(self) -> Mapping[str, Any]:
        """The run's result; empty if there is none yet."""
        result = self.info.get("result")
        return result if isinstance(result, dict) else {}


def load_run(run: RunDir) -> RunData:
    """Read everything a report needs.

    Raises:
        RunError: run.json is missing or damaged: then it is no run.
    """
    data = RunData(run.name, run.info(), None, [], {})
    try:
        data.recipe = run.recipe()
    except (MetadistError, OSError, UnicodeDecodeError) as error:
        data.notes.append(f"The recipe cannot be read: {error}.")
    try:
        for number in range(1, run.latest_attempt() + 1):
            data.attempts.append(run.attempt_facts(number))
        data.series = series(run)
        data.spans = history(run)
    except (DataError, OSError, KeyError, TypeError, AttributeError) as error:
        data.notes.append(f"The metric log cannot be read in full: {error}.")
    own = own_names(data.recipe) if data.recipe else []
    found = [read_evaluation(run, name, data.notes) for name in evaluation_names(run)]
    places = {name: place for place, name in enumerate(own)}
    data.protocols = sorted(
        filter(None, found), key=lambda p: (places.get(p.name, len(own)), p.part, p.queries, p.name)
    )
    data.examples = _examples(run.evaluation / "examples.safetensors", data.notes)
    once = data.examples is not None and data.examples["outputs"].shape[1:2] == (1,)
    if once and any(data.owns(p) and len(p.steps) > 1 for p in data.protocols):
        data.protocols = [_without_steps(p) for p in data.protocols]
    try:
        if (path := run.evaluation / DIAGNOSTICS).is_file():
            data.diagnostics = read_diagnostics(path)
    except UNREADABLE as error:
        kind = type(error).__name__
        data.notes.append(f"evaluation/{path.name} cannot be read: {kind}: {error}.")
    return data


def _without_steps(found: StoredEvaluation) -> StoredEvaluation:
    """Of a learner that predicts once: evaluation repeats that for every number of steps."""
    return replace(
        found,
        steps=found.steps[:1],
        scores=None if found.scores is None else found.scores[:, :1],
        further=tuple(replace(f, mean=f.mean[:1], ci95=f.ci95[:1]) for f in found.further),
        trained_steps=0,
        figure_step=0,
    )


def _examples(path: Path, notes: list[str]) -> Arrays | None:
    if not path.is_file():
        return None
    try:
        arrays: Arrays = load_file(path)
        needed = ("ids", "support_x", "support_y", "query_x", "query_y", "outputs")
        missing = [name for name in needed if name not in arrays]
        if missing:
            raise ValueError(f"no tensor {', '.join(missing)}")
        if len({len(arrays[name]) for name in needed}) != 1 or arrays["outputs"].ndim != 4:
            raise ValueError("its tensors do not belong together")
        return arrays
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        notes.append(f"evaluation/{path.name} cannot be read: {error}.")
        return None
