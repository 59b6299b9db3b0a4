"""A trained learner as MLflow's ``pyfunc`` loads and asks it.

A request is one task, see :mod:`metadist.track.registry.request`. The answer has a row for each
query, in their order: ``label``, and ``probabilities`` by label; or ``mean``, and ``scale`` where
there is one. Nothing is unpickled.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from data_pipeline.errors import DataError
from metadist.errors import AdaptError
from metadist.evaluation.inference.saved_model import SavedModel
from metadist.evaluation.inference.trained_model import TrainedModel
from metadist.track.registry.request import Form


class FewShotModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc, name-defined]
    """A trained learner that adapts anew at each request."""

    def __init__(self) -> None:
        self._model: TrainedModel | None = None
        # Settings of arithmetic belong to the whole process: one request after another.
        self._alone = threading.Lock()

    def load_context(self, context: Any) -> None:
        """Read recipe, weights and configuration from the model's folder."""
        device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
        saved = SavedModel.read(Path(context.artifacts["learner"]))
        self._model = TrainedModel.of_saved(saved, device)

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """A row for each query.

        Args:
            model_input: role, label and image (or y and x) of each row.
            params: ``steps`` of adaptation (-1: as in training); ``invert``: exchange light and
                dark.

        Raises:
            MlflowException: a request that cannot be answered; the message says why.
        """
        assert self._model is not None
        given = params or {}
        steps = int(given.get("steps", -1))
        model = self._model.inverted() if given.get("invert", False) else self._model
        form = Form(model)
        try:
            asked = form.read(model_input.to_dict(orient="records"))
            with self._alone:
                fitted = model.adapt_prepared(
                    asked.support,
                    asked.targets,
                    unlabeled=asked.unlabeled,
                    steps=None if steps == -1 else steps,
                )
                result = fitted.predict_prepared(asked.query)
        except (AdaptError, DataError) as error:
            raise MlflowException(str(error), INVALID_PARAMETER_VALUE) from None
        return pd.DataFrame(form.answer(result))
