"""How MLflow's table of an experiment's runs begins: with the columns that tell runs apart.

MLflow keeps views that somebody shares as tags of the experiment; an address that names the key
opens with the view.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

VIEW_KEY = "metadist"
_TAG = f"mlflow.sharedViewState.{VIEW_KEY}"
_COLUMNS = (
    "attributes.`Dataset`",
    "metrics.`test/accuracy`",
    "metrics.`test/accuracy_ci95`",
    "metrics.`test/classes`",
    "metrics.`test/accuracy_ci95_classes`",
    "metrics.`test/mse`",
    "metrics.`test/mse_ci95`",
    "params.`algorithm.name`",
    "params.`data.ways`",
    "params.`data.shots`",
    "params.`model.name`",
    "params.`outer.steps`",
)
_VIEW = json.dumps({"selectedColumns": _COLUMNS})


def offer_view(client: MlflowClient, experiment: Experiment) -> None:
    """Let an experiment have our view, beside those that others have shared.

    A store that takes no tag of an experiment has the runs nevertheless.
    """
    if experiment.tags.get(_TAG) != _VIEW:
        with contextlib.suppress(Exception):
            client.set_experiment_tag(experiment.experiment_id, _TAG, _VIEW)
