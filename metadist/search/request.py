"""What is asked of a search, and what that means for one that is there already."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from metadist.compute.device import Device, check_device
from metadist.compute.resolve import where_it_runs
from metadist.driver.resolve_run import AUTO
from metadist.errors import SpaceError
from metadist.plugins import Plugin
from metadist.process.announce import Announce, quiet
from metadist.runs.record import check_name
from metadist.search.plan import Plan, make_plan, plan_of
from metadist.search.search_dir import FOLDER, SearchDir, open_search
from metadist.search.spaces import load_space, space_name
from metadist.space import Population
from metadist.track import default_tracking_uri, public_uri, store_of, whole_uri


@dataclass(frozen=True)
class SearchRequest:
    """Everything a search needs to know; see :func:`metadist.tune`."""

    space: str | None
    default_name: str
    overrides: tuple[str, ...]
    changes: dict[str, Any]
    data_dir: Path
    runs_dir: Path
    plugins: tuple[str | Path | Plugin, ...]
    name: str | None = None
    resume: str | None = None
    base: str | None = None
    seed: int | None = None
    workers: int = 0
    concurrent: int | None = None
    cpus: float = 1.0
    gpus: float | None = None
    seeds: int | None = None
    episodes: int | None = None
    default: bool | None = None
    address: str | None = None
    tracking_uri: str | None = None
    experiment: str | None = None
    offline: bool = False
    device: Device = "auto"
    live: bool = False


#: What is decided when a search begins and stays, with what it is if nothing is said.
LASTING: dict[str, Any] = {
    "seeds": 3,
    "episodes": 1000,
    "default": True,
    "experiment": "metadist",
}


def check(request: SearchRequest) -> None:
    """See that numbers are possible; raises SpaceError."""
    _check_counts(
        workers_per_trial=request.workers,
        seeds=request.seeds,
        episodes=request.episodes,
        concurrent=request.concurrent,
    )
    if request.workers > 1 and (request.cpus != 1 or request.gpus not in (None, 0, 1)):
        raise SpaceError(
            f"each of {request.workers} workers of a trial takes one CPU or one GPU; leave "
            "cpus_per_trial and gpus_per_trial out, or have trials without workers of their own"
        )
    if not request.cpus > 0:
        raise SpaceError(f"cpus_per_trial: more than 0 is needed, got {request.cpus}")
    if request.gpus is not None and request.gpus < 0:
        raise SpaceError(f"gpus_per_trial: 0 or more is needed, got {request.gpus}")
    check_device(request.device)
    if request.space is None and request.resume is None:
        raise SpaceError("a space is needed, or the name of a search to resume")
    if request.resume == AUTO and (request.space is None or request.name is None):
        raise SpaceError(
            "--resume auto: SPACE and --name are needed, to go on with the search of that name or "
            "to start it"
        )


def search_to_resume(request: SearchRequest) -> SearchDir | None:
    """The search to go on with; None if a new one is meant.

    Raises:
        SpaceError: there is none of the name that ``resume`` gives.
    """
    if request.resume is None:
        return None
    if request.resume != AUTO:
        return open_search(request.runs_dir, request.resume)
    path = request.runs_dir / FOLDER / check_name(request.name or "")
    return SearchDir(path) if (path / "search.json").is_file() else None


#: The least that is possible.
_LEAST = {"workers_per_trial": 0, "seeds": 0, "episodes": 2, "concurrent": 1}


def _check_counts(**counts: int | None) -> None:
    for name, value in counts.items():
        if value is not None and value < _LEAST[name]:
            raise SpaceError(f"{name}: {_LEAST[name]} or more is needed, got {value}")


def plan_for(request: SearchRequest, there: SearchDir | None, announce: Announce = quiet) -> Plan:
    """The plan of a new search, or that of one which is there, perhaps with more trials."""
    if there is None:
        plan = _new_plan(request)
        recipe = plan.recipe({})
        placed = where_it_runs(recipe, announce=announce)
        return plan if placed == recipe else plan.without_kernels()
    if request.resume == AUTO:
        plan = plan_of(there.info().get("plan"))
        asked_for = _new_plan(request)
        if not (plan.same(asked_for) or plan.same(asked_for.without_kernels())):
            raise SpaceError(
                f"{there.path} was started by another request; --resume auto goes on with the "
                f"same one only: use --resume {there.name}, or another --name"
            )
        return plan
    if request.name is not None and request.name != there.name:
        raise SpaceError(
            f"--name {request.name!r} with --resume {there.name!r}: a search keeps its name"
        )
    plan = plan_of(there.info().get("plan"))
    if request.space is not None and space_name(request.space) != space_name(plan.name):
        raise SpaceError(f"{there.path} searches the space {plan.name!r}, not {request.space!r}")
    asked = {k: v for k, v in request.changes.items() if v is not None}
    other_seed = request.seed not in (None, plan.seed)
    if other_seed or request.base is not None or request.overrides or set(asked) - {"trials"}:
        raise SpaceError(
            f"{there.path}: only the number of trials may change when a search goes on; start one "
            "of another name"
        )
    if (trials := asked.get("trials")) is None or trials == plan.space.trials:
        return plan
    fixed = plan.space.searcher == "grid" or isinstance(plan.space.scheduler, Population)
    if trials < plan.space.trials or fixed:
        raise SpaceError(
            f"trials: {there.path} has {plan.trials}; a search may be given more, a grid or a "
            f"population none, got {trials}"
        )
    return replace(plan, space=replace(plan.space, trials=trials))


def _new_plan(request: SearchRequest) -> Plan:
    assert request.space is not None
    return make_plan(
        request.space,
        load_space(request.space),
        base=request.base,
        overrides=request.overrides,
        seed=request.seed or 0,
        **request.changes,
    )


def lasting_for(request: SearchRequest, there: SearchDir | None) -> dict[str, Any]:
    """What stays as it was when the search began.

    Raises:
        SpaceError: something else is asked for now.
    """
    asked = {name: getattr(request, name) for name in LASTING}
    if there is None:
        return {name: LASTING[name] if v is None else v for name, v in asked.items()}
    was = _lasting_of(there)
    if odd := [f"{n}: {was[n]!r} -> {v!r}" for n, v in asked.items() if v not in (None, was[n])]:
        raise SpaceError(
            f"{there.path}: {', '.join(odd)}; these stay as they were when the search began, leave "
            "them out"
        )
    return was


def _lasting_of(there: SearchDir) -> dict[str, Any]:
    """Raises SpaceError if somebody has altered it."""
    kept = there.info().get("lasting")
    was = {**LASTING, **(kept if isinstance(kept, dict) else {})}
    # A number is none of True and False.
    odd = {n: was[n] for n, plain in LASTING.items() if type(was[n]) is not type(plain)}
    if not isinstance(kept, dict | None) or was.keys() != LASTING.keys() or odd:
        raise SpaceError(f"{there.path}/search.json: damaged: lasting: {kept!r}")
    _check_counts(seeds=was["seeds"], episodes=was["episodes"])
    return was


def store_for(request: SearchRequest, there: SearchDir | None) -> str | None:
    """The tracking store, which a search keeps; None: without MLflow.

    Raises:
        SpaceError: another one is asked for now.
        TrackingError: the search's own has a password, and nobody has given it.
    """
    if request.offline:
        return None
    known = None if there is None else there.info().get("tracking_uri")
    given = whole_uri(request.tracking_uri or default_tracking_uri(request.runs_dir.parent))
    if not isinstance(known, str) or public_uri(given) == known:
        return given
    if request.tracking_uri is not None:
        raise SpaceError(
            f"{there and there.path}: its runs are in {known}, not in {public_uri(given)}; leave "
            "--tracking-uri out, or start a search of another name"
        )
    assert there is not None
    return store_of(known, None, request.runs_dir.parent, there.path)
