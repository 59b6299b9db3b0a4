"""Experiments of MLflow: made or found, with the columns that tell runs apart, and their runs.

MLflow keeps views that somebody shares as tags of the experiment; an address that names the key
opens with the view.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from metadist.errors import TrackingError
from metadist.track.client import brief, retry_on_conflict, store_client
from metadist.track.uris import artifact_location, public_uri, sqlite_path

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

#: The tag by which a run is recognised if its id was not yet written down when the driver died.
KEY_TAG = "metadist.key"
#: The tag that says where the run directory was when it was last sent.
DIRECTORY_TAG = "run_dir"
_PER_REQUEST = 500
VIEW_KEY = "metadist"
_TAG = f"mlflow.sharedViewState.{VIEW_KEY}"
_FIGURES = (
    "accuracy", "accuracy_ci95", "classes", "accuracy_ci95_classes", "mse", "mse_ci95", "nll",
    "nll_ci95",
)  # fmt: skip
_PARAMS = ("algorithm.name", "data.ways", "data.shots", "model.name", "outer.steps")
_COLUMNS = (
    "attributes.`Dataset`",
    *(f"metrics.`test/{name}`" for name in _FIGURES),
    *(f"params.`{name}`" for name in _PARAMS),
)
_VIEW = json.dumps({"selectedColumns": _COLUMNS})


@dataclass(frozen=True)
class Found:
    """A run in MLflow.

    Attributes:
        name: in MLflow.
        key: the identity of its run directory; see :func:`metadist.track.run_key`. Empty if the
            run is none of ours, or only sums up others.
        directory: where its run directory was when it was last sent; may be on another machine.
        finished: whether it has ended well.
    """

    name: str
    key: str
    directory: str
    finished: bool


def search_runs(uri: str, experiment: str, filter_string: str = "") -> list[Found]:
    """The runs of an experiment that fit a filter, the oldest first.

    Args:
        uri: the tracking store, which must exist.
        filter_string: in MLflow's language: ``params.inner.lr = '0.4'``.

    Raises:
        TrackingError: no such store or experiment, the store does not answer, or the filter is
            none.
    """
    path = sqlite_path(uri)
    if path is not None and not path.is_file():
        raise TrackingError(
            f"there is no tracking store {path}: go to the directory where you trained, or name "
            "the store with --tracking-uri"
        )
    with store_client(uri) as client:
        from mlflow.exceptions import MlflowException

        found = client.get_experiment_by_name(experiment)
        if found is None:
            known = ", ".join(e.name for e in client.search_experiments(max_results=20))
            raise TrackingError(
                f"{public_uri(uri)}: no experiment {experiment!r}; there are: {known}"
            )
        runs: list[Run] = []
        token: str | None = ""
        try:
            while token is not None:
                page = client.search_runs(
                    [found.experiment_id],
                    filter_string,
                    max_results=_PER_REQUEST,
                    order_by=["attributes.start_time ASC"],
                    page_token=token or None,
                )
                runs += page
                token = page.token or None
        except MlflowException as error:
            if error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            raise TrackingError(
                f"--filter {filter_string!r}: MLflow does not understand it ({brief(error)}); "
                "such as \"params.`inner.lr` = '0.4' and metrics.`test/accuracy` > 0.6\""
            ) from None
    return [_found(run) for run in runs]


def _found(run: Run) -> Found:
    tags = run.data.tags
    ours = KEY_TAG in tags and "summary" not in tags
    return Found(
        name=str(run.info.run_name),
        key=str(tags[KEY_TAG]) if ours else "",
        directory=str(tags.get(DIRECTORY_TAG, "")),
        finished=run.info.status == "FINISHED",
    )


def ensure_experiment(uri: str, experiment: str) -> str:
    """The id of an experiment, created if needed.

    It answers within seconds, so it also tells a driver early whether the store can be used.

    Raises:
        TrackingError: the store does not answer, or the experiment was deleted.
    """
    with store_client(uri) as client:
        return experiment_of(client, uri, experiment)


def experiment_of(client: MlflowClient, uri: str, name: str) -> str:
    """:func:`ensure_experiment` with a client of :func:`metadist.track.client.store_client`."""

    def found_or_made() -> Any:
        found = client.get_experiment_by_name(name)
        if found is None:
            client.create_experiment(name, artifact_location=artifact_location(uri, name))
            found = client.get_experiment_by_name(name)
        return found

    found = retry_on_conflict(found_or_made)
    if found is None:
        raise TrackingError(f"{public_uri(uri)}: experiment {name!r} cannot be created")
    if found.lifecycle_stage != "active":
        raise TrackingError(
            f"{public_uri(uri)}: experiment {name!r} was deleted; choose another with "
            f"--experiment, or restore it (mlflow experiments restore -x {found.experiment_id})"
        )
    offer_view(client, found)
    return str(found.experiment_id)


def offer_view(client: MlflowClient, experiment: Experiment) -> None:
    """Let an experiment have our view, beside those that others have shared.

    A store that takes no tag of an experiment has the runs nevertheless.
    """
    if experiment.tags.get(_TAG) != _VIEW:
        with contextlib.suppress(Exception):
            client.set_experiment_tag(experiment.experiment_id, _TAG, _VIEW)
