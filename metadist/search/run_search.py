"""The driver of a search: plan, directory, MLflow parent, trials, confirmation, results."""

from __future__ import annotations

import contextlib
import functools
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from metadist import plugins as outside
from metadist.driver.plan import DryRun
from metadist.driver.preflight import preflight
from metadist.driver.resolve_run import AUTO
from metadist.episode_data.places import to_be_made
from metadist.errors import ResourceError, SpaceError
from metadist.executors.cluster.connection import connected
from metadist.executors.cluster.remote_process import DEATHS, RemoteProcess
from metadist.executors.cluster.resources import Resources, capacity
from metadist.executors.optuna_search import check_optuna
from metadist.executors.pool import Command, Job, Pool
from metadist.executors.ray_tune import TrialFunction, run_trials
from metadist.process.announce import Announce
from metadist.process.signals import StopRequest
from metadist.recipe.schema import Recipe
from metadist.runs.readers.evaluations import metric_facts
from metadist.runs.record import check_name
from metadist.search import confirm
from metadist.search.confirm import Confirmation, ConfirmationRun
from metadist.search.display import Display
from metadist.search.plan import Plan, check_learners, plan_of
from metadist.search.population import run_population
from metadist.search.repair import repair_records
from metadist.search.report import write_search_report
from metadist.search.request import (
    SearchRequest,
    check,
    lasting_for,
    plan_for,
    search_to_resume,
    store_for,
)
from metadist.search.search_dir import FOLDER, SearchDir, TrialRecord, create_search
from metadist.search.tracking import ParentRun
from metadist.search.trial import TrialContext, run_trial
from metadist.space import Population


def run_search(request: SearchRequest, announce: Announce) -> dict[str, Any]:
    """Search as requested; see :func:`metadist.tune`."""
    check(request)
    there = search_to_resume(request)
    with contextlib.ExitStack() as stack:
        if there is not None:
            # Before anything is read that another driver may be writing.
            stack.enter_context(there.alone())
        # Read once, here: a trial's process stands elsewhere.
        used = stack.enter_context(outside.use(request.plugins))
        request = replace(request, plugins=used)
        plan, lasting = plan_for(request, there, announce), lasting_for(request, there)
        if there is not None and request.resume == AUTO and there.info()["status"] == "finished":
            announce(f"{there.name} is finished already; nothing to do")
            return summary(there, plan, there.info()["result"])
        plan = _checked(plan, request.data_dir, announce)
        parent = ParentRun.of(store_for(request, there), lasting["experiment"])
        address = request.address or os.environ.get("RAY_ADDRESS") or None
        with connected(address, max(request.workers, 1), announce), _asked_to_end():
            resources = _resources(request, address)
            # Nothing was written so far; from here on the search exists.
            facts = {"plan": plan.document(), "lasting": lasting}
            if there is None:
                name = request.name or request.default_name
                there = create_search(request.runs_dir, name, facts)
                stack.enter_context(there.alone())
            elif plan != plan_of(there.info().get("plan")):
                there.update(**facts, result=None)
            how = Confirmation(lasting["episodes"], lasting["seeds"], lasting["default"])
            return _Search(request, plan, there, parent, resources, how, announce).run()


def plan_search(request: SearchRequest, announce: Announce) -> DryRun:
    """What :func:`run_search` would do; nothing is made, and neither Ray nor MLflow is asked.

    Raises:
        MetadistError, DataError: what it would refuse.
    """
    check(request)
    there = search_to_resume(request)
    with outside.use(request.plugins):
        plan, lasting = plan_for(request, there, announce), lasting_for(request, there)
        recipe = plan.recipe({})
        # Whether learners can be built for data that are not there is not known.
        if not to_be_made(recipe, request.data_dir):
            plan = _checked(plan, request.data_dir, announce)
    if there is None:
        there = SearchDir(
            request.runs_dir / FOLDER / check_name(request.name or request.default_name)
        )
        if there.path.exists():
            raise there.taken()
    done = sum(t.over for t in there.trials())
    document = {
        "search": there.name,
        "directory": str(there.path),
        "trials": plan.trials,
        "done": done,
        "tasks": plan.trials * plan.space.steps * recipe.outer.batch,
        "recipe_hash": recipe.hash,
        **plan.document(),
        **lasting,
    }
    said = (
        f"search {there.name}: {there.path}",
        f"{plan.trials} trials, {done} done, of {plan.space.steps:,} steps on {plan.space.base} "
        f"({plan.space.searcher}): at most {document['tasks']:,} tasks",
        *(f"{key}: {domain}" for key, domain in plan.space.search.items()),
        f"stopped by {plan.space.scheduler or 'nobody'}, judged by {plan.space.metric}",
        f"then {lasting['seeds']} seeds of the winner"
        f"{' and of the default' if lasting['default'] else ''}, {lasting['episodes']:,} episodes",
        f"the recipe that trials start from, hash {recipe.hash}:",
    )
    return DryRun(recipe, document, said)


@contextlib.contextmanager
def _asked_to_end() -> Iterator[None]:
    """A signal ends the search as Ctrl-C does, which Tune takes for itself meanwhile."""
    with StopRequest(handled=False) as asked:
        try:
            yield
        except KeyboardInterrupt:
            asked.check()  # Tune passes on that it was interrupted, not by what
            raise


def _checked(plan: Plan, data_dir: Path, announce: Announce) -> Plan:
    """The plan with what its metric is: data are there, learners can be built, it is measured.

    Raises:
        SpaceError: another metric decides for the base's objective.
    """
    if plan.points is None:
        check_optuna()
    recipe = plan.recipe({})
    for line in plan.dropped():
        announce(line)
    setup = preflight(recipe, data_dir, announce)
    check_learners(plan, setup.data.shape)
    objective = setup.objective
    metric, mode = objective.metric, "max" if objective.metric.higher_is_better else "min"
    if (plan.space.metric, plan.space.mode) != (f"val/{metric.name}", mode):
        raise SpaceError(
            f"space {plan.name}: {objective.name} on {recipe.data.dataset} is measured by "
            f"val/{metric.name} ({mode}), the space has {plan.space.metric} ({plan.space.mode})"
        )
    return replace(plan, measured=metric_facts(metric).get("metric"))


def _resources(request: SearchRequest, address: str | None) -> Resources:
    asked = request.concurrent
    if asked is None and address is None:
        # A private Ray has a spare CPU, for what is neither trial nor worker.
        asked = max(1, int((os.cpu_count() or 1) // (max(request.workers, 1) * request.cpus)))
    return capacity(request.workers, request.cpus, request.gpus, asked, request.device)


@dataclass(frozen=True)
class _Search:
    """A search that exists, on a Ray that this process is connected to."""

    request: SearchRequest
    plan: Plan
    search: SearchDir
    parent: ParentRun
    resources: Resources
    confirmation: Confirmation
    announce: Announce

    def run(self) -> dict[str, Any]:
        """All of it, from wherever it stands."""
        plan, search, announce = self.plan, self.search, self.announce
        repair_records(plan, search, announce)
        context = self._context()
        known = search.trials()
        verb = f"Going on with {search.name}" if known else search.name
        announce(
            f"{verb}: {plan.trials} trials of {plan.space.steps} steps on {plan.space.base} "
            f"({plan.space.searcher}), {sum(t.over for t in known)} done; {search.path}"
        )
        search.update(status="running")
        status = "failed"
        try:
            self._run_trials(context)
            result = self._confirm(context)
            status = "finished"
        except KeyboardInterrupt:
            status = "interrupted"
            announce(f"{search.name} was interrupted; go on with --resume {search.name}")
            raise
        finally:
            search.update(status=status)
            write_search_report(search, announce)
            self.parent.close(search, plan, status, announce)
        return result

    def _context(self) -> TrialContext:
        request, parent = self.request, self.parent
        return TrialContext(
            path=self.search.path,
            data_dir=request.data_dir,
            workers=request.workers,
            device=request.device,
            tracking_uri=parent.uri,
            experiment=parent.experiment,
            offline=request.offline,
            plugins=request.plugins,
            tags=parent.open(self.search, self.plan),
        )

    def _run_trials(self, context: TrialContext) -> None:
        """All trials, to their ends.

        Raises:
            KeyboardInterrupt: Tune was interrupted, and has ended its trials.
            ResourceError: processes died again and again before a trial had begun.
        """
        plan, search = self.plan, self.search
        # A trial whose process dies before its record is written leaves no trace of itself.
        for _ in range(DEATHS):
            known = search.trials()
            if len(known) >= plan.trials and all(t.over for t in known):
                return
            self._run_once(context, known)
        if missing := plan.trials - len(search.trials()):
            raise ResourceError(
                f"{search.name}: {plan.trials} trials are asked for, {missing} of them have not "
                "begun, since their processes died again and again; look at the machine's memory, "
                f"and go on with --resume {search.name}"
            )

    def _run_once(self, context: TrialContext, known: Sequence[TrialRecord]) -> None:
        """Give Tune all trials; those that are over are told again, not trained again."""
        plan, search = self.plan, self.search
        display = Display(plan, search, self.announce, live=self.request.live)

        def run(function: TrialFunction) -> bool:
            with display:
                return run_trials(
                    plan.space,
                    function,
                    seed=plan.seed,
                    resources=self.resources,
                    known=[t.point for t in known],
                    points=plan.points,
                    stop_files=search.stop_files,
                    listener=display,
                )

        if isinstance(plan.space.scheduler, Population):
            run_population(plan, context, self.announce, run)
        elif not run(functools.partial(run_trial, plan, context)):
            raise KeyboardInterrupt
        for trial in search.trials():
            if not trial.over:
                error = "its process died again and again"
                search.record(replace(trial, status="failed", error=error))

    def _confirm(self, context: TrialContext) -> dict[str, Any]:
        """Choose the winner on fresh episodes, train it anew, and write down what came of it."""
        plan, search, how = self.plan, self.search, self.confirmation
        trials = search.trials()
        first = confirm.candidates(plan, trials)
        self.announce(
            f"Comparing the best {len(first)} of {len(trials)} trials on {how.episodes} fresh "
            "validation episodes"
        )
        self._run_confirmation(context, first)
        chosen = confirm.choose(plan, search, trials, how.episodes)
        final = confirm.final_runs(plan, chosen.winner, how)
        if final:
            beside = " beside the default setting" if how.default else ""
            self.announce(
                f"Training trial {chosen.winner.number} anew with {how.seeds} seeds{beside}"
            )
            self._run_confirmation(context, final)
        result = confirm.results(plan, search, chosen, how)
        recipe = final[0].recipe if final else plan.recipe(chosen.winner.point)
        assert recipe is not None
        search.best.write_text(_best(plan, search, recipe, result), encoding="utf-8")
        search.update(result=result)
        return summary(search, plan, result)

    def _run_confirmation(self, context: TrialContext, runs: list[ConfirmationRun]) -> None:
        work = functools.partial(confirm.confirm_run, context, episodes=self.confirmation.episodes)
        if self.resources.bare:
            for run in runs:  # they have workers of their own
                work(run)
            return
        by_name = {run.name: functools.partial(work, run) for run in runs}

        def start(job: Job, index: int) -> RemoteProcess:
            return RemoteProcess(by_name[job.name], self.resources)

        pool = Pool(start, at_once=self.resources.concurrent, go_on=False)
        jobs = [Job(name, (Command((), "confirming"),)) for name in by_name]
        for outcome in pool.run(jobs).values():
            if outcome.error is not None:
                raise outcome.error


def _best(plan: Plan, search: SearchDir, recipe: Recipe, result: dict[str, Any]) -> str:
    """The recipe that was found, as a file that can be trained."""
    point = ", ".join(
        f"{key} = {value:.4g}" if isinstance(value, float) else f"{key} = {value}"
        for key, value in result["point"].items()
    )
    return (
        f"# metadist train {search.best}\n"
        f"# Trial {result['trial']} of {plan.trials} of the search {search.name} in the space "
        f"{plan.name}: {point}.\n" + plan.tested(recipe).to_toml()
    )


def summary(search: SearchDir, plan: Plan, result: dict[str, Any]) -> dict[str, Any]:
    """What :func:`metadist.tune` returns."""
    trials = search.trials()
    return {
        "search": search.name,
        "directory": str(search.path),
        "trials": dict(Counter(t.status for t in trials)),
        "tasks": sum(t.tasks for t in trials),
        "best_recipe": str(search.best),
        **result,
    }
