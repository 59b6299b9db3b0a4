"""Runs of an experiment, found by what MLflow knows of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from metadist.errors import TrackingError
from metadist.track.client import brief, connect, explain, impatient, public_uri, sqlite_path
from metadist.track.runs import DIRECTORY_TAG, KEY_TAG

_PER_REQUEST = 500


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

    run_id: str
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
    with impatient():
        client = connect(uri)
        try:
            found = client.get_experiment_by_name(experiment)
            if found is None:
                known = ", ".join(e.name for e in client.search_experiments(max_results=20))
                raise TrackingError(
                    f"{public_uri(uri)}: no experiment {experiment!r}; there are: {known}"
                )
            runs: list[Any] = []
            token: str | None = ""
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
        except Exception as error:
            if _refuses_filter(error):
                raise TrackingError(
                    f"--filter {filter_string!r}: MLflow does not understand it ({brief(error)}); "
                    "such as \"params.`inner.lr` = '0.4' and metrics.`test/accuracy` > 0.6\""
                ) from None
            raise explain(uri, error) from error
    return [_found(run) for run in runs]


def _refuses_filter(error: Exception) -> bool:
    from mlflow.exceptions import MlflowException

    return isinstance(error, MlflowException) and error.error_code == "INVALID_PARAMETER_VALUE"


def _found(run: Any) -> Found:
    tags = run.data.tags
    ours = KEY_TAG in tags and "summary" not in tags
    return Found(
        run_id=run.info.run_id,
        name=str(run.info.run_name),
        key=str(tags[KEY_TAG]) if ours else "",
        directory=str(tags.get(DIRECTORY_TAG, "")),
        finished=run.info.status == "FINISHED",
    )
