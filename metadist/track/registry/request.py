"""What a registered model is asked and what it answers: one task, a table with a row per example.

``role`` is ``support`` or ``query``, or ``unlabeled`` for a learner that learns from such examples.
An example is an ``image``, an image file in base64, or ``x``, its numbers in one list; a support
example has a ``label``, or ``y``, a list of values, which the others leave empty.
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_pipeline.formats.labelled_images import label_text
from metadist.errors import AdaptError
from metadist.evaluation.inference.predictions import Predictions
from metadist.evaluation.inference.trained_model import TrainedModel

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.models import ModelSignature

Row = Mapping[Any, Any]
#: Examples of each role of the request that is an example, where there are no classes.
_POINTS = 3


@dataclass(frozen=True)
class Request:
    """One task.

    Attributes:
        support, query, unlabeled: prepared examples; the last is None where no learner wants it.
        targets: of the support, labels or values.
    """

    support: NDArray[Any]
    targets: list[Any]
    query: NDArray[Any]
    unlabeled: NDArray[Any] | None


@dataclass(frozen=True)
class Form:
    """Which columns and roles the requests to a model have."""

    model: TrainedModel

    @property
    def input(self) -> str:
        """The column of examples."""
        return "x" if self.model.tasks.preparation is None else "image"

    @property
    def target(self) -> str:
        """The column of what the support shows."""
        return "label" if self.model.ways else "y"

    @property
    def roles(self) -> tuple[str, ...]:
        """Words of the column ``role``."""
        more = ("unlabeled",) if "unlabeled" in self.model.trained.learner.needs else ()
        return ("support", *more, "query")

    def read(self, rows: Iterable[Row]) -> Request:
        """The task of a table.

        Raises:
            AdaptError: a row is wrong; it is named by its number.
            DataError: an image cannot be read.
        """
        examples: dict[str, list[NDArray[Any]]] = {role: [] for role in self.roles}
        targets: list[Any] = []
        for number, row in enumerate(rows, start=1):
            where = f"row {number}"
            role, target = row.get("role"), self._target(row, where)
            if role not in self.roles:
                known = " or ".join(map(repr, self.roles))
                raise AdaptError(f"{where}: role: {known} is needed, got {role!r}")
            self._check(str(role), target, where)
            examples[str(role)].append(self._example(row, where))
            if role == "support":
                targets.append(target)
        found = {role: self._stacked(some) for role, some in examples.items()}
        return Request(found["support"], targets, found["query"], found.get("unlabeled"))

    def answer(self, found: Predictions) -> dict[str, list[Any]]:
        """Columns with a row for each query."""
        if self.model.ways:
            rows = found.probabilities.tolist()
            each = [dict(zip(found.classes, row, strict=True)) for row in rows]
            return {"label": list(found.labels), "probabilities": each}
        scale = {} if found.scale is None else {"scale": found.scale.tolist()}
        return {"mean": found.mean.tolist(), **scale}

    def _check(self, role: str, target: Any, where: str) -> None:
        what = "image" if self.input == "image" else "point"
        if role == "support" and not target:
            raise AdaptError(f"{where}: a support {what} needs a {self.target}, it has none")
        if role != "support" and target:
            who = "a query" if role == "query" else f"an unlabeled {what}"
            why = ", it is what the model predicts" if role == "query" else ""
            raise AdaptError(
                f"{where}: {who} has the {self.target} {target!r}; leave it empty{why}"
            )

    def _target(self, row: Row, where: str) -> Any:
        """A label or values; nothing where the cell is empty."""
        if self.model.ways:
            return label_text(_text(row, "label"))
        return _numbers(row, "y", where) or []

    def _example(self, row: Row, where: str) -> NDArray[Any]:
        prepare = self.model.tasks.preparation
        if prepare is not None:
            return prepare.pixels(_decoded(row, where), where)
        numbers, shape = _numbers(row, "x", where), self.model.tasks.shape.inputs
        if len(numbers) != int(np.prod(shape)):
            raise AdaptError(
                f"{where}: x: {int(np.prod(shape))} numbers are needed, got {len(numbers)}"
            )
        return np.array(numbers, np.float64).reshape(shape)

    def _stacked(self, examples: list[NDArray[Any]]) -> NDArray[Any]:
        """Of the same shape where there are none."""
        prepare = self.model.tasks.preparation
        if prepare is None:
            return np.array(examples, np.float64).reshape(-1, *self.model.tasks.shape.inputs)
        return np.array(examples, np.uint8).reshape(-1, *prepare.shape)


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


def _text(row: Row, column: str) -> str:
    """A cell's text; empty where there is none, which pandas has several words for."""
    value = row.get(column)
    return value if isinstance(value, str) else ""


def _numbers(row: Row, column: str, where: str) -> list[float]:
    """A cell's finite numbers; none where there are none."""
    value = row.get(column)
    if _is_empty(value):
        return []
    try:
        if not isinstance(value, list | tuple | np.ndarray):
            raise TypeError
        numbers = [float(one) for one in value]
    except (TypeError, ValueError):
        raise AdaptError(f"{where}: {column}: a list of numbers is needed, got {value!r}") from None
    if not np.isfinite(numbers).all():
        raise AdaptError(f"{where}: {column}: finite numbers are needed, got {numbers}")
    return numbers


def _is_empty(value: Any) -> bool:
    """Whether a cell holds nothing: no text, or what pandas has for it."""
    import pandas as pd

    if isinstance(value, str):
        return not value
    return bool(pd.api.types.is_scalar(value) and pd.isna(value))


def _decoded(row: Row, where: str) -> bytes:
    try:
        data = base64.b64decode(_text(row, "image"), validate=True)
    except (binascii.Error, ValueError):
        raise AdaptError(f"{where}: image: not base64; an image file in base64 is needed") from None
    if not data:
        raise AdaptError(f"{where}: image: empty; an image file in base64 is needed")
    return data
