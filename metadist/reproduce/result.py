"""The result of a request: every row with its verdict, every run, and where it all comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from metadist.executors.pool import CommandResult
from metadist.process.provenance import KEYS
from metadist.reproduce.measure import Measured, measure
from metadist.reproduce.plan import Planned, Request
from metadist.reproduce.table import Row
from metadist.reproduce.verdict import Verdict, judge, notes
from metadist.runs.readers.compute_cost import trained_tasks

#: Of the JSON document.
FORMAT = 1


@dataclass(frozen=True)
class RowResult:
    """A row as it came out.

    Attributes:
        used, published_tasks: budgets of the row's run; 0 where nothing is meta-trained.
        share: of the published budget; None where there is none.
        notes: differences from the published protocol and what else must be said.
        runs: names of the run directories it is read from.
    """

    row: Row
    measured: Measured
    used: int | None
    published_tasks: int
    share: float | None
    verdict: Verdict
    notes: tuple[str, ...]
    runs: tuple[str, ...]


@dataclass(frozen=True)
class Result:
    """All of it.

    Attributes:
        outcomes: of the commands that were run, by run name.
        facts: see :func:`metadist.process.provenance.provenance`; what made the runs, or what
            runs now if there are none.
    """

    request: Request
    planned: tuple[Planned, ...]
    outcomes: Mapping[str, CommandResult]
    rows: tuple[RowResult, ...]
    facts: Mapping[str, str]

    @property
    def failed(self) -> list[str]:
        """Names of runs that cannot be had, or whose commands have failed."""
        broken = {name for name, result in self.outcomes.items() if result.state == "failed"}
        return [p.name for p in self.planned if p.problem or p.name in broken]

    def document(self) -> dict[str, Any]:
        """Everything, JSON-able."""
        request = self.request
        return {
            "format": FORMAT,
            "table": request.table.name,
            "title": request.table.title,
            "command": request.command,
            "tasks": request.tasks,
            "seeds": request.seeds,
            **self.facts,
            "rows": [_row(one) for one in self.rows],
            "runs": [_run(one, self.outcomes.get(one.name)) for one in self.planned],
        }


def assemble(
    request: Request,
    planned: Sequence[Planned],
    outcomes: Mapping[str, CommandResult],
    facts: Mapping[str, str],
) -> Result:
    """Read every row's figure and judge it."""
    reasons = {name: o.why for name, o in outcomes.items() if o.state != "done"}
    facts = _made_by(planned) or facts
    rows = tuple(_judged(request, row, planned, reasons) for row in request.rows)
    return Result(request, tuple(planned), dict(outcomes), rows, dict(facts))


def _made_by(planned: Sequence[Planned]) -> dict[str, str]:
    """Of the finished runs, by key: what they were made by, each value once."""
    made = [
        record
        for one in planned
        if one.finished
        for record in one.run.info().get("made_by") or [dict.fromkeys(KEYS, "not recorded")]
    ]
    values = {key: {str(record.get(key, "not recorded")) for record in made} for key in KEYS}
    return {key: " and ".join(sorted(found)) for key, found in values.items()} if made else {}


def _judged(
    request: Request, row: Row, planned: Sequence[Planned], reasons: Mapping[str, str]
) -> RowResult:
    table, mine = request.table, [p for p in planned if p.key in row.runs]
    measured = measure(row, planned, reasons)
    trained = next((p for p in mine if p.key == row.run and p.finished), None)
    used = None
    if trained is not None and trained.recipe is not None and measured.ours is not None:
        used = trained_tasks(trained.run.info(), trained.recipe)
    published = table.published_tasks(row.run)
    share = None if used is None or not published else used / published
    against = row.not_comparable
    if not against and row.complete_data:
        against = next((p.incomplete for p in mine if p.incomplete), "")
    verdict = judge(
        measured.ours,
        row.published,
        row.direction,
        missing=measured.missing,
        not_comparable=against,
        share=share,
    )
    said = [*table.differences, *table.runs[row.run].differences, *row.differences]
    if row.versus is not None:
        said += table.runs[row.versus].differences
    said += notes(measured.ours, row.published, verdict)
    said += [f"A seed is missing: {why}" for why in measured.lost if measured.ours is not None]
    once, runs = tuple(dict.fromkeys(said)), tuple(p.name for p in mine)
    return RowResult(row, measured, used, published, share, verdict, once, runs)


def _row(one: RowResult) -> dict[str, Any]:
    row, ours = one.row, one.measured.ours
    # Without what only says how a figure is to be read.
    told = (
        {k: v for k, v in asdict(ours).items() if k not in ("labels", "left_out")} if ours else None
    )
    protocol = {
        name: value
        for name in ("shots", "queries", "episodes", "step", "finding", "part")
        if (value := getattr(row, name)) not in (None, "")
    }
    return {
        **{name: getattr(row, name) for name in ("id", "label", "metric", "unit", "combine")},
        "better": row.direction,
        "protocol": protocol,
        "ours": told,
        "published": None if row.published is None else row.published.model_dump(),
        "source": row.source,
        "read_in": row.read_in,
        "budget": {"used": one.used, "published": one.published_tasks, "share": one.share},
        "verdict": {**asdict(one.verdict), "text": one.verdict.text},
        "notes": list(one.notes),
        "by_step": [
            {"step": step, "mean": mean, "ci95": ci95} for step, mean, ci95 in one.measured.curve
        ],
        "runs": list(one.runs),
    }


def _run(one: Planned, result: CommandResult | None) -> dict[str, Any]:
    info = one.run.info() if one.finished else {}
    return {
        "name": one.name,
        "run": one.key,
        "seed": one.seed,
        "status": "finished" if one.finished else result.state if result else "failed",
        "why": one.problem or (result.why if result else ""),
        "overrides": list(one.overrides),
        "recipe_hash": info.get("recipe_hash"),
        "dataset_digest": info.get("dataset", {}).get("digest"),
        "params_sha256": (info.get("result") or {}).get("params_sha256"),
        "seconds": None if result is None else round(result.seconds, 1),
    }
