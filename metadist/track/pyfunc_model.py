"""A trained learner as MLflow's ``pyfunc`` loads and asks it.

A request is one task, a table with a row for each image: ``role`` is ``support`` or ``query``,
``label`` says what a support image shows and is empty for a query, ``image`` is an image file in
base64. The answer has a row for each query, in their order: ``label``, and ``probabilities`` by
label. Nothing is unpickled.
"""

from __future__ import annotations

import base64
import binascii
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from data_pipeline.errors import DataError
from data_pipeline.formats.images import Preparation
from data_pipeline.formats.labelled_images import label_text
from metadist.errors import AdaptError
from metadist.evaluation.inference.saved_model import SavedModel
from metadist.evaluation.inference.trained_model import TrainedModel


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
        """A row for each query: label, and probabilities by label.

        Args:
            model_input: role, label and image of each row.
            params: ``steps`` of adaptation (-1: as in training); ``invert``: exchange light and
                dark.

        Raises:
            MlflowException: a request that cannot be answered; the message says why.
        """
        assert self._model is not None
        given = params or {}
        steps = int(given.get("steps", -1))
        model = self._model.inverted() if given.get("invert", False) else self._model
        assert model.tasks.preparation is not None
        try:
            support, labels, queries = _read(model_input, model.tasks.preparation)
            with self._alone:
                fitted = model.adapt_prepared(support, labels, steps=None if steps == -1 else steps)
                result = fitted.predict_prepared(queries)
        except (AdaptError, DataError) as error:
            raise MlflowException(str(error), INVALID_PARAMETER_VALUE) from None
        rows = result.probabilities.tolist()
        return pd.DataFrame(
            {
                "label": list(result.labels),
                "probabilities": [dict(zip(result.classes, row, strict=True)) for row in rows],
            }
        )


def _read(table: pd.DataFrame, prepare: Preparation) -> tuple[Any, list[str], Any]:
    """Pixels and labels of the support, and pixels of the queries."""
    support, labels, queries = [], [], []
    for number, row in enumerate(table.to_dict(orient="records"), start=1):
        where = f"row {number}"
        role, label = row.get("role"), _text(row, "label")
        if role not in ("support", "query"):
            raise AdaptError(f"{where}: role: 'support' or 'query' is needed, got {role!r}")
        if role == "support" and not label:
            raise AdaptError(f"{where}: a support image needs a label, it has none")
        if role == "query" and label:
            raise AdaptError(
                f"{where}: a query has the label {label!r}; leave it empty, it is what the model "
                "predicts"
            )
        pixels = prepare.pixels(_decoded(row, where), where)
        if role == "support":
            support.append(pixels)
            labels.append(label_text(label))
        else:
            queries.append(pixels)
    # Of the same shape where there are none.
    given, asked = (np.array(p, np.uint8).reshape(-1, *prepare.shape) for p in (support, queries))
    return given, labels, asked


def _text(row: Mapping[Any, Any], column: str) -> str:
    """A cell's text; empty where there is none, which pandas has several words for."""
    value = row.get(column)
    return value if isinstance(value, str) else ""


def _decoded(row: Mapping[Any, Any], where: str) -> bytes:
    try:
        data = base64.b64decode(_text(row, "image"), validate=True)
    except (binascii.Error, ValueError):
        raise AdaptError(f"{where}: image: not base64; an image file in base64 is needed") from None
    if not data:
        raise AdaptError(f"{where}: image: empty; an image file in base64 is needed")
    return data
