"""One MLflow run that sums up several: their figures as metrics, the table as artifacts."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from metadist.track.client import connect, explain, impatient
from metadist.track.runs import clean_name, start_run
from metadist.track.send import STATUS


def record_summary(
    uri: str,
    experiment: str,
    name: str,
    *,
    key: str,
    tags: Mapping[str, str],
    metrics: Mapping[str, float],
    files: Sequence[Path],
    status: str = "finished",
) -> str:
    """Write a summary and return its run id; the run of the same key is written again.

    Args:
        uri: the tracking store.
        name: of the run in MLflow.
        key: what is summed up: one run in the experiment for each key.
        metrics: finite figures.
        files: artifacts; of a folder all its files, in a folder of its name.
        status: ``finished``, ``failed`` or ``killed``.

    Raises:
        TrackingError: the store does not answer within seconds, or refuses.
    """
    from mlflow.entities import Metric

    run_id = start_run(uri, experiment, name, {}, {**tags, "summary": "true"}, key=key)
    now = round(time.time() * 1000)
    points = [Metric(clean_name(metric), value, now, 0) for metric, value in metrics.items()]
    with impatient():
        client = connect(uri)
        try:
            if points:
                client.log_batch(run_id, metrics=points)
            for path in files:
                if path.is_dir():
                    client.log_artifacts(run_id, str(path), path.name)
                else:
                    client.log_artifact(run_id, str(path))
            client.set_terminated(run_id, STATUS[status])
        except Exception as error:
            raise explain(uri, error) from error
    return run_id
