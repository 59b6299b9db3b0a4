"""Runs of a tracking store: create one, or take an existing one up again; its params and tags."""

from __future__ import annotations

import getpass
import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from data_pipeline.storage.object_uri import address_of
from metadist.recipe.schema import Recipe
from metadist.statistics.format import cut
from metadist.track.client import GONE, gone_error, retry_on_conflict, run_state, store_client
from metadist.track.experiments import DIRECTORY_TAG, KEY_TAG, experiment_of

if TYPE_CHECKING:
    from mlflow import MlflowClient

#: Longest value of a param or tag that every MLflow server takes.
MAX_VALUE = 500
#: Of a dataset's digest in the column of a table; all of it is a tag.
_SHORT_DIGEST = 12
#: Params or tags per request.
_PER_REQUEST = 100


def clean_name(name: str) -> str:
    """``name`` with characters that MLflow refuses replaced by ``_``."""
    return re.sub(r"[^\w/.\- :]", "_", name)[:250]


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    return cut(text, MAX_VALUE)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    result: dict[str, str] = {}
    for key, value in values.items():
        name = clean_name(prefix + str(key))
        if isinstance(value, Mapping):
            result |= _flat(value, f"{name}.")
        else:
            result[name] = _text(value)
    return result


def run_key(info: Mapping[str, Any]) -> str:
    """The identity of a run directory, from its run.json: see :func:`start_run`."""
    apart = (info.get("copy") or {}).get("id", "")
    return f"{info.get('name', '')} {info.get('created', '')} {apart}".rstrip()


def run_params(recipe: Recipe) -> dict[str, str]:
    """Every field of a recipe as ``section.key``."""
    return _flat(recipe.model_dump(mode="json"))


def run_tags(
    info: Mapping[str, Any], attempt: Mapping[str, Any], directory: Path | None = None
) -> dict[str, str]:
    """What run.json says of a run, as tags: hash, dataset, versions, learner, numerics, result.

    Args:
        info: the contents of run.json.
        attempt: what the latest attempt has recorded: world_size, bits, numerics.
        directory: of the run, as it is called here.
    """
    given = {
        "recipe_hash": info.get("recipe_hash"),
        "dataset": info.get("dataset"),
        "version": info.get("versions"),
        "learner": info.get("learner"),
        "plugin": info.get("plugins"),
        "numerics": attempt.get("numerics") or info.get("numerics"),
        "result": info.get("result"),
        "world_size": attempt.get("world_size"),
        "bits": attempt.get("bits"),
        DIRECTORY_TAG: None if directory is None else address_of(directory),
    }
    tags = _flat({name: value for name, value in given.items() if value is not None})
    tags = {name: value for name, value in tags.items() if value}
    # Short names for what people filter by.
    for name in ("norm", "derivative_order"):
        if f"learner.{name}" in tags:
            tags[name] = tags.pop(f"learner.{name}")
    if "dataset.digest" in tags:
        tags["dataset_digest"] = tags.pop("dataset.digest")
    return tags


def start_run(
    uri: str,
    experiment: str,
    run_name: str,
    params: Mapping[str, str],
    tags: Mapping[str, str],
    *,
    key: str = "",
    start_time: int | None = None,
) -> str:
    """Create an MLflow run, RUNNING, and return its id.

    Args:
        params: see :func:`run_params`.
        tags: see :func:`run_tags`.
        key: identity of the run directory (:func:`run_key`). If a run of this key
            exists already, because a driver died before it wrote down the id, that one is used.
        start_time: milliseconds since 1970; now if not given.

    Raises:
        TrackingError: the store does not answer within seconds, or refuses.
    """
    with store_client(uri) as client:
        experiment_id = experiment_of(client, uri, experiment)
        every_tag = {**tags, KEY_TAG: _quoted(key)} if key else tags

        def found_or_made() -> str:
            run_id = find_run(client, experiment_id, key)
            if run_id is None:
                origin = {"mlflow.source.name": "metadist", "mlflow.user": _user()}
                made = client.create_run(
                    experiment_id, start_time, {**origin, **every_tag}, run_name
                )
                return str(made.info.run_id)
            client.update_run(run_id, status="RUNNING")
            return run_id

        run_id = retry_on_conflict(found_or_made)
        retry_on_conflict(lambda: set_tags(client, run_id, every_tag, params))
        retry_on_conflict(lambda: _name_dataset(client, run_id, tags))
        return run_id


def find_run(client: MlflowClient, experiment_id: str, key: str) -> str | None:
    """The id of the run of a key; None if there is none, or the key is empty."""
    if not key:
        return None
    wanted = f"tags.`{KEY_TAG}` = '{_quoted(key)}'"
    found = client.search_runs([experiment_id], wanted, max_results=1)
    return str(found[0].info.run_id) if found else None


def _quoted(key: str) -> str:
    return key.replace("'", "_")


def reopen_run(uri: str, run_id: str, params: Mapping[str, str], tags: Mapping[str, str]) -> None:
    """Set an existing MLflow run to RUNNING again, with the tags of the new attempt.

    A param that has changed (``outer.steps`` may grow) stays as it was, as MLflow demands; its
    new value becomes the tag ``now.<param>``.

    Raises:
        TrackingError: the store does not answer within seconds, or the run was deleted there.
    """
    with store_client(uri) as client:
        if (state := run_state(client, run_id)) in GONE:
            raise gone_error(uri, run_id, state)
        client.update_run(run_id, status="RUNNING")
        retry_on_conflict(lambda: set_tags(client, run_id, tags, params))


def set_tags(
    client: MlflowClient,
    run_id: str,
    tags: Mapping[str, str],
    params: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Set tags, also those that are there, and add params; may be repeated."""
    from mlflow.entities import Param, RunTag

    logged = client.get_run(run_id).data.params
    fresh = [Param(k, v) for k, v in params.items() if k not in logged]
    changed = {f"now.{k}": v for k, v in params.items() if logged.get(k, v) != v}
    every_tag = [RunTag(k, v) for k, v in {**tags, **changed}.items()]
    for start in range(0, max(len(fresh), len(every_tag)), _PER_REQUEST):
        stop = start + _PER_REQUEST
        client.log_batch(run_id, params=fresh[start:stop], tags=every_tag[start:stop])


def _name_dataset(client: MlflowClient, run_id: str, tags: Mapping[str, str]) -> None:
    """Tell MLflow what the run learns from, for the column and the filter of its pages."""
    from mlflow.entities import Dataset, DatasetInput

    name, digest = tags.get("dataset.name"), tags.get("dataset_digest")
    if name and digest:
        source = json.dumps({"split": tags.get("dataset.split", ""), "digest": digest})
        dataset = Dataset(name, digest[:_SHORT_DIGEST], "metadist", source)
        client.log_inputs(run_id, [DatasetInput(dataset)])


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container may run under a number that has no name
        return "unknown"
