"""A search in MLflow: one parent run, under which every trial is nested."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

from metadist.errors import TrackingError
from metadist.process.announce import Announce
from metadist.runs.listing import list_runs
from metadist.search.plan import Plan
from metadist.search.search_dir import SearchDir, run_tags
from metadist.track import ensure_experiment, public_uri, record_summary, start_run, sync_run

#: How a search has ended, as MLflow calls it of a run.
_ENDED = {"finished": "finished", "failed": "failed", "interrupted": "killed"}


@dataclass(frozen=True)
class ParentRun:
    """Where the parent run is, or is to be.

    Attributes:
        uri: of the store; None: no MLflow.
    """

    uri: str | None
    experiment: str

    @classmethod
    def of(cls, uri: str | None, experiment: str) -> ParentRun:
        """Reach the store before anything exists that would have to be cleaned up.

        Raises:
            TrackingError: it does not answer.
        """
        if uri is not None:
            ensure_experiment(uri, experiment)
        return cls(uri, experiment)

    def open(self, search: SearchDir, plan: Plan) -> dict[str, str]:
        """Make the parent run, or find it again; the tags that nest a run under it."""
        tags = {"search": search.name}
        if self.uri is None:
            return tags
        params = {
            "space": plan.name,
            "base": plan.space.base,
            "searcher": plan.space.searcher,
            "trials": str(plan.trials),
            "seed": str(plan.seed),
            "outer.steps": str(plan.space.steps),
            "metric": plan.space.metric,
            **{f"search.{key}": str(domain) for key, domain in plan.space.search.items()},
        }
        own = {"search": search.name, "search.space": plan.name}
        key = self._key(search)
        run_id = start_run(self.uri, self.experiment, search.name, params, own, key=key)
        search.update(mlflow_run=run_id, tracking_uri=public_uri(self.uri))
        return {**tags, "mlflow.parentRunId": run_id}

    def close(self, search: SearchDir, plan: Plan, status: str, announce: Announce) -> None:
        """Figures and files of the search; a store that is away costs nothing else."""
        if self.uri is None:
            return
        result: Any = search.info().get("result") or {}
        metrics: dict[str, float] = {}
        for name in ("best_validation", "best_test", "default_validation", "default_test"):
            with contextlib.suppress(LookupError, TypeError, ValueError):  # none yet, or altered
                metrics[name.replace("_", "/")] = float(result[name]["mean"])
        parts = (search.best, search.report, search.figures, search.path / "search.json")
        try:
            self._send(search)
            record_summary(
                self.uri,
                self.experiment,
                search.name,
                key=self._key(search),
                tags={"search": search.name, "search.status": status},
                metrics=metrics,
                files=[part for part in parts if part.exists()],
                status=_ENDED[status],
            )
        except TrackingError as error:
            announce(f"The summary of the search is not in MLflow: {error}")

    def _send(self, search: SearchDir) -> None:
        """Runs that have ended and of which the store does not have everything."""
        parent = search.info().get("mlflow_run")
        nested = {"search": search.name, "mlflow.parentRunId": parent} if parent else {}
        for run in list_runs(search.runs):
            info = run.info()
            sent = info.get("mlflow") and info.get("closed")
            if not sent and info.get("status") in ("finished", "stopped", "failed"):
                tags = {**nested, **run_tags(run.name)} if nested else {}
                sync_run(run, uri=self.uri, experiment=self.experiment, tags=tags)
                run.update(closed=info["status"] != "failed")

    def _key(self, search: SearchDir) -> str:
        return f"search {search.name} {search.info()['created']}"
