"""Published tables, run again: our figures beside the published ones, with a verdict each.

    from metadist.reproduce import reproduce, write

    result = reproduce("sinusoid-shots", tasks=40_000, jobs=2)
    write(result, "results")

Importing this package imports neither torch, Ray nor MLflow.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

from data_pipeline.storage.local import locked
from metadist.errors import MetadistError, TableError
from metadist.reproduce.table import Table, load_table, table_names

if TYPE_CHECKING:
    from metadist.reproduce.result import Result

__all__ = ["Table", "load_table", "record", "reproduce", "table_names", "write"]


def reproduce(
    table: str | Table,
    *,
    tasks: int | None = None,
    minutes: float | None = None,
    jobs: int | None = 1,
    seeds: int = 1,
    rows: Sequence[str] = (),
    workers: int = 0,
    address: str | None = None,
    plugins: str | Path | Sequence[str | Path] = (),
    data_dir: str | Path | None = None,
    runs_dir: str | Path = "runs",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    tracking_uri: str | None = None,
    offline: bool = False,
    progress: TextIO | None = None,
) -> Result:
    """Run what a table's rows need, and compare their figures with the published ones.

    Each run is a process. Runs are named by table, run, budget and seed: a second call with the
    same arguments reuses what is finished and continues what is not.

    Args:
        table: a built-in table's name, the path of a TOML file, or a table.
        tasks: the budget of a run, which decides its outer steps; the table's own if not given.
        minutes: after so long nothing is started and what runs is stopped; it can be continued.
        jobs: runs at once, None for as many as fit; a table of times takes one after the other.
        seeds: runs of each kind.
        rows: their ids; all if empty.
        workers: Ray workers of each run; 0 trains in the run's own process.
        address: of a Ray cluster whose nodes see runs and data at the same paths; RAY_ADDRESS if
            not given. The runs are at work there, or their workers.
        plugins, data_dir, runs_dir, device, tracking_uri, offline: see :func:`metadist.train`.
            Runs are in the MLflow experiment of the table's name.
        progress: where to say what is at work.

    Raises:
        MetadistError: the request, the table or the tracking store is wrong. A run that fails is
            no error: its rows say so.
    """
    from metadist.driver.directories import data_directory, runs_directory
    from metadist.driver.preflight import check_workers
    from metadist.executors.pool import CommandResult, Pool
    from metadist.executors.world_size import WorldSize
    from metadist.plugins import use
    from metadist.process.provenance import provenance
    from metadist.reproduce.display import Display
    from metadist.reproduce.places import place
    from metadist.reproduce.plan import LOGS, Request, plan
    from metadist.reproduce.plan import jobs as jobs_of
    from metadist.reproduce.result import assemble
    from metadist.track import ensure_experiment

    began = time.monotonic()
    wanted = load_table(table) if isinstance(table, str) else table
    for name, value in (("tasks", tasks), ("minutes", minutes), ("jobs", jobs), ("seeds", seeds)):
        if value is not None and value <= 0:
            raise TableError(f"{name}: more than 0 is needed, got {value}")
    request = Request(
        table=wanted,
        rows=tuple(wanted.chosen(list(rows))),
        tasks=tasks or wanted.tasks,
        seeds=seeds,
        runs_dir=runs_directory(runs_dir, local_for="a table"),
        data_dir=data_directory(data_dir),
        workers=workers,
        device=device,
        tracking_uri=tracking_uri,
        offline=offline,
        plugins=tuple(str(p) for p in ([plugins] if isinstance(plugins, str | Path) else plugins)),
        source=table if isinstance(table, str) else "",
    )
    address = address or os.environ.get("RAY_ADDRESS") or None
    check_workers(WorldSize.of(workers or (1 if address else 0)), device, address)
    if not offline:
        ensure_experiment(request.store, wanted.name)  # it answers before anything is started
    facts = provenance()
    lock = request.runs_dir / LOGS / f"{wanted.name}.lock"
    with use(request.plugins), _alone(lock), contextlib.ExitStack() as stack:
        said: list[str] = []
        planned = plan(request, said.append)
        outcomes: dict[str, CommandResult] = {}
        if pending := jobs_of(planned, request):
            steps = {p.name: p.recipe.outer.steps for p in planned if p.recipe is not None}
            runs = {p.name: p.run for p in planned}
            watch = stack.enter_context(Display(runs, steps, progress or io.StringIO()))
            for line in said:
                watch.say(line)
            start, fits = stack.enter_context(place(request, address, jobs, watch.say))
            at_once = 1 if wanted.exclusive else fits
            deadline = math.inf if minutes is None else began + 60 * minutes
            pool = Pool(start, at_once, deadline, watch)
            outcomes = pool.run(pending)
        return assemble(request, planned, outcomes, facts)


def _alone(path: Path) -> contextlib.AbstractContextManager[None]:
    """Hold a table's lock in a runs directory: two at once would take runs from each other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    taken = TableError(
        f"{path}: another process reproduces this table in this runs directory; wait for it, or "
        "use another --runs-dir"
    )
    return locked(path, taken)


def write(result: Result, out: str | Path) -> list[Path]:
    """Write ``<table>.md``, ``<table>.json`` and the table's pictures.

    Raises:
        MetadistError: they cannot be written.
    """
    from data_pipeline.storage.local import write_atomic
    from data_pipeline.storage.typed_paths import typed_path
    from metadist.reproduce.pictures import pictures
    from metadist.reproduce.render import markdown

    name, directory = result.request.table.name, typed_path(out)
    drawn = pictures(result)
    document = json.dumps(result.document(), indent=1, ensure_ascii=False, allow_nan=False)
    contents = {
        f"{name}.md": markdown(result, list(drawn)),
        f"{name}.json": f"{document}\n",
        **drawn,
    }
    try:
        for file, content in contents.items():
            write_atomic(directory / file, content.encode())
    except OSError as error:
        raise MetadistError(
            f"{directory}: the results cannot be written ({error.strerror}); the runs are kept: "
            "make room, or name another --out, and give the same command again"
        ) from error
    return [directory / file for file in contents]


def record(result: Result, files: Sequence[Path]) -> str:
    """Sum the result up in MLflow, in the experiment of the table's name; its run id there.

    Raises:
        TrackingError: the store does not answer, or refuses.
    """
    from metadist.track import record_summary

    request = result.request
    metrics: dict[str, float | None] = {}
    for one in result.rows:
        if ours := one.measured.ours:
            metrics |= {f"{one.row.id}/ours": ours.value, f"{one.row.id}/ci95": ours.ci95}
        if published := one.row.published:
            metrics[f"{one.row.id}/published"] = published.value
    tags = {f"verdict.{one.row.id}": one.verdict.kind for one in result.rows}
    return record_summary(
        request.store,
        request.table.name,
        f"{request.table.name}-t{request.tasks}",
        key=f"table {request.command} in {request.runs_dir}",
        tags={**tags, **result.facts, "command": request.command},
        metrics={name: value for name, value in metrics.items() if value is not None},
        files=files,
    )
