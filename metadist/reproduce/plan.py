"""Which runs a table takes at a budget: their names, recipes and commands, and what is there."""

from __future__ import annotations

import functools
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from data_pipeline.errors import DataError
from metadist import plugins
from metadist.compute.resolve import (
    WITHOUT_KERNELS,
    dropped,
    dropped_lines,
    resolve,
    where_it_runs,
)
from metadist.driver.preflight import preflight
from metadist.errors import MetadistError, RunError
from metadist.evaluation.protocols import EvalRequest, own_protocols, protocol
from metadist.executors.pool import Command, Job
from metadist.overrides import parse_override
from metadist.process.announce import Announce, quiet
from metadist.recipe.schema import Recipe, differences, load_recipe
from metadist.reproduce.table import Row, Table
from metadist.runs.readers.evaluations import read_own_figures
from metadist.runs.readers.plugins import changes
from metadist.runs.record import check_name
from metadist.runs.run_dir import RunDir
from metadist.track import default_tracking_uri

#: Directory beside the runs, of what their commands say; it has no run.json and is no run.
LOGS = ".reproduce"
#: Checkpoints of a run at least, and outer steps between two at most: a stopped one loses little.
CHECKPOINTS = 10
EVERY = 200


@dataclass(frozen=True)
class Request:
    """What was asked for.

    Attributes:
        rows: those to print, in the table's order.
        tasks: the budget of a run.
        seeds: runs of each kind, with ``run.seed`` 0, 1, ...
        offline: do without MLflow.
        plugins: see :func:`metadist.train`.
        source: how the table was named; by its own name if empty.
    """

    table: Table
    rows: tuple[Row, ...]
    tasks: int
    seeds: int
    runs_dir: Path
    data_dir: Path
    workers: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    tracking_uri: str | None = None
    offline: bool = False
    plugins: tuple[str, ...] = ()
    source: str = ""

    @property
    def store(self) -> str:
        """The tracking store."""
        return self.tracking_uri or default_tracking_uri(self.runs_dir.parent)

    @property
    def command(self) -> str:
        """The command line that gives the same figures."""
        arguments = ["metadist", "reproduce", self.source or self.table.name]
        arguments += ["--tasks", str(self.tasks)]
        if self.seeds > 1:
            arguments += ["--seeds", str(self.seeds)]
        if len(self.rows) < len(self.table.rows):
            arguments += ["--rows", ",".join(row.id for row in self.rows)]
        for plugin in self.plugins:
            arguments += ["--plugin", plugin]
        return shlex.join(arguments)


@dataclass(frozen=True)
class Planned:
    """A run of the table with a seed.

    Attributes:
        key: its name in the table.
        name: of its run directory: a function of table, key, budget and seed.
        overrides: of its recipe, as given to ``metadist train``.
        recipe: resolved; None if there is a problem.
        problem: why it cannot be run or read.
        incomplete: what the dataset lacks of the published one, in its own words.
    """

    key: str
    seed: int
    name: str
    run: RunDir
    overrides: tuple[str, ...] = ()
    recipe: Recipe | None = None
    problem: str = ""
    incomplete: str = ""
    #: Protocols that the rows ask for beside the recipe's own, by name.
    asked: dict[str, EvalRequest] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Whether its training has ended well."""
        try:
            return not self.problem and self.run.info().get("status") == "finished"
        except RunError:
            return False


def row_protocol(row: Row, name: str, recipe: Recipe) -> tuple[str, EvalRequest | None]:
    """The name of the protocol that a row's figure is of, and how to ask for it.

    Returns:
        None for one that the recipe itself is evaluated by.

    Raises:
        RunError: see :class:`metadist.evaluation.protocols.EvalRequest`.
    """
    for own in own_protocols(recipe):
        same = (row.shots in (None, own.shots), row.episodes in (None, own.episodes))
        if all(same) and row.queries in (None, own.queries) and (row.step or 0) <= own.steps:
            return own.name, None
    asked = EvalRequest("test", row.shots, row.queries, row.step, row.episodes)
    return protocol([(name, recipe)], asked).name, asked


def plan(request: Request, announce: Announce = quiet) -> list[Planned]:
    """All runs of a request, with what is wrong with those that cannot be had."""
    keys = dict.fromkeys(run for row in request.rows for run in row.runs)
    return [_planned(request, key, seed, announce) for key in keys for seed in range(request.seeds)]


def _planned(request: Request, key: str, seed: int, announce: Announce) -> Planned:
    table = request.table
    name = f"{table.name}-{key}-t{request.tasks}-s{seed}"
    run = RunDir(request.runs_dir / name)
    try:
        check_name(name)
        alone = _load(table, key, table.overrides_of(key))
        steps = max(1, request.tasks // alone.outer.batch)
        settings = [
            *table.overrides_of(key, steps),
            f"outer.steps={steps}",
            f"eval.every={max(1, steps // table.validations)}",
            f"run.checkpoint_every={max(1, min(EVERY, steps // CHECKPOINTS))}",
            f"run.seed={seed}",
        ]
        stated = _load(table, key, settings)
        recipe, settings = resolve(stated), _without(settings, dropped(stated))
        for line in dropped_lines(stated) if seed == 0 else ():
            announce(f"{key}: {line}")
        there = run.recipe() if (run.path / "run.json").exists() else None
        placed = where_it_runs(recipe, there, announce if seed == 0 else quiet)
        if placed != recipe:
            recipe, settings = placed, [*settings, WITHOUT_KERNELS]
        rows = [r for r in request.rows if key in r.runs and r.scored]
        pairs = [row_protocol(row, name, recipe) for row in rows]
        asked = {protocol_name: how for protocol_name, how in pairs if how is not None}
        _check_same(request, run, recipe)
        incomplete = _check_data(request, run, recipe, announce)
    except (MetadistError, DataError, OSError) as error:
        return Planned(key, seed, name, run, problem=str(error))
    except (LookupError, TypeError, ValueError) as error:
        problem = f"{run.path}: its run.json cannot be used ({error!r}); remove it"
        return Planned(key, seed, name, run, problem=problem)
    return Planned(key, seed, name, run, tuple(settings), recipe, "", incomplete, asked)


def _load(table: Table, key: str, settings: Sequence[str]) -> Recipe:
    """The recipe of a run, before its parts are asked for their options."""
    shared = len(table.base.set)
    return load_recipe(table.recipe_of(key), tuple(settings[shared:]), tuple(settings[:shared]))


def _without(settings: Sequence[str], keys: Mapping[str, Sequence[str]]) -> list[str]:
    """Overrides but those of these keys, by section."""
    gone = {key for section in keys.values() for key in section}
    return [text for text in settings if ".".join(parse_override(text)[:2]) not in gone]


def _check_same(request: Request, run: RunDir, recipe: Recipe) -> None:
    """See that a run of that name, if there is one, is the run that is meant."""
    if not (run.path / "run.json").exists():
        return
    there, info = run.recipe(), run.info()
    anew = "remove it, or use another --runs-dir"
    if there.hash != recipe.hash:
        raise RunError(
            f"{run.path}: made from another version of this table "
            f"({', '.join(differences(there, recipe))}); {anew}"
        )
    if changed := changes(info.get("plugins", {}), plugins.facts(plugins.of(recipe))):
        raise RunError(f"{run.path}: {'; '.join(changed)}; put the source back, or {anew}")
    latest = run.latest_attempt()
    if request.table.exclusive and latest:
        # A table of times compares runs that were made alike.
        workers = run.attempt_facts(latest).get("world_size")
        if workers != max(request.workers, 1):
            raise RunError(
                f"{run.path}: trained by {workers} workers, {max(request.workers, 1)} are asked "
                f"for, and speed is what the table is about; {anew}"
            )


def _check_data(request: Request, run: RunDir, recipe: Recipe, announce: Announce) -> str:
    """Make or open the data, and say what they lack of the complete dataset."""
    data = preflight(recipe, request.data_dir, announce).data
    if (run.path / "run.json").exists():
        data.check(run.path, run.info()["dataset"]["digest"])
    complete = data.store.description.get("complete", "") if data.store else ""
    return complete.removeprefix("no: ") if complete.startswith("no") else ""


def job(planned: Planned, request: Request) -> Job | None:
    """The commands that a run still needs; None if it has all that the rows ask for."""
    if planned.problem:
        return None
    places = ["--runs-dir", str(request.runs_dir), "--data-dir", str(request.data_dir)]
    places += ["--device", request.device, "--json"]
    for plugin in request.plugins:
        places += ["--plugin", plugin]
    start = [sys.executable, "-m", "metadist"]
    commands = []
    info = planned.run.info() if planned.finished else {}
    sent = request.offline or (info.get("closed") and info.get("mlflow"))
    if not (planned.finished and sent):
        arguments = [*start, "train", request.table.recipe_of(planned.key)]
        arguments += ["--name", planned.name, "--resume", "auto", "--workers", str(request.workers)]
        for setting in planned.overrides:
            arguments += ["--set", setting]
        arguments += ["--experiment", request.table.name, *places]
        if request.offline:
            arguments.append("--offline")
        commands.append(Command(tuple(arguments), "training"))
    assert planned.recipe is not None
    there = functools.partial(_readable, planned.run, planned.recipe)
    evaluate = (*start, "evaluate", planned.name, *places)
    if planned.finished and not all(there(own.name) for own in own_protocols(planned.recipe)):
        commands.append(Command(evaluate, "evaluating again"))
    for name, how in planned.asked.items():
        if planned.finished and there(name):
            continue
        arguments = [*evaluate]
        for option in ("ways", "shots", "queries", "steps", "episodes"):
            if (value := getattr(how, option)) is not None:
                arguments += [f"--{option}", str(value)]
        commands.append(Command(tuple(arguments), f"evaluating {name}"))
    log = request.runs_dir / LOGS / f"{planned.name}.txt"
    return Job(planned.name, tuple(commands), log) if commands else None


def _readable(run: RunDir, recipe: Recipe, name: str) -> bool:
    """Whether a protocol's figures can be read and need not be made again."""
    try:
        read_own_figures(run, recipe, name)
    except RunError:
        return False
    return True


def jobs(planned: Sequence[Planned], request: Request) -> list[Job]:
    """The jobs of all runs, the first seed of every run before the second of any."""
    ordered = sorted(planned, key=lambda p: p.seed)  # a stable sort: the table's order otherwise
    return [found for one in ordered if (found := job(one, request)) is not None]
