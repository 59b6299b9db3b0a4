"""What MLflow is told of a model's requests: their columns, and an example."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from metadist.track.registry.request import Form

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.models import ModelSignature


#: Examples of each role where there are no classes.
_POINTS = 3


def signature(form: Form) -> ModelSignature:
    """Columns and parameters of a request, columns of an answer."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import Array, Map

    text, numbers = DataType.string, Array(DataType.double)
    labels, images = form.target == "label", form.input == "image"
    answer: list[Any] = (
        [ColSpec(text, "label"), ColSpec(Map(DataType.double), "probabilities")]
        if labels
        else [ColSpec(numbers, "mean"), ColSpec(numbers, "scale", required=False)]
    )
    invert = [ParamSpec("invert", DataType.boolean, False)] if images else []
    return ModelSignature(
        inputs=Schema(
            [
                ColSpec(text, "role"),
                ColSpec(text if labels else numbers, form.target, required=False),
                ColSpec(text if images else numbers, form.input),
            ]
        ),
        outputs=Schema(answer),
        params=ParamSchema([ParamSpec("steps", DataType.long, -1), *invert]),
    )


def example(form: Form) -> pd.DataFrame:
    """A small request of drawn bars or of zeros: an example of each class, or a few, in each role.

    Drawn, for images of the dataset may be nobody's to pass on.
    """
    import pandas as pd

    rows, zeros = [], [0.0] * form.model.tasks.shape.outputs
    # An unlabeled example may be left out of a request for no learner that wants some.
    for role in ("support", "query", *(r for r in form.roles if r == "unlabeled")):
        for number in range(form.model.ways or _POINTS):
            target: Any = "" if form.model.ways else []
            if role == "support":
                target = f"class {number + 1:02d}" if form.model.ways else zeros
            rows.append(
                {"role": role, form.target: target, form.input: _example(form, role, number)}
            )
    return pd.DataFrame(rows)


def _example(form: Form, role: str, number: int) -> Any:
    """A bar at a place of its own for each class, cut short in queries; or a point."""
    prepare, bars = form.model.tasks.preparation, form.model.ways or _POINTS
    if prepare is None:
        return [float(number)] * int(np.prod(form.model.tasks.shape.inputs))
    height, width, channels = prepare.shape
    pixels = np.zeros((height, width, channels), dtype=np.uint8)
    first = number * height // bars
    pixels[first : first + max(1, height // bars)] = 255
    pixels[:, : {"support": 0, "query": width // 4, "unlabeled": width // 8}[role]] = 0
    buffer = io.BytesIO()
    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    picture.save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()
