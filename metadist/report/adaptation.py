"""What a learner made of a user's own images: a table, a picture and a record.

predictions.csv    a row for each query
predictions.svg    support images by class, queries with what was predicted
adaptation.json    which learner, how it adapted, what to know of the figures
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_pipeline.formats.labelled_images import LabelledImages
from data_pipeline.storage.local import new_directory
from metadist.errors import AdaptError
from metadist.evaluation.inference.fitted_model import FittedModel
from metadist.evaluation.inference.predictions import Predictions
from metadist.evaluation.inference.trained_model import TrainedModel
from metadist.objectives import ACCURACY
from metadist.report.document import page
from metadist.report.phrases import plural
from metadist.report.sections.episodes import png
from metadist.report.svg import standalone
from metadist.statistics.format import cut, percent

#: Most that is drawn: classes, support images of each, queries.
CLASSES, SHOTS, QUERIES = 20, 8, 40
_WIDTH, _MARGIN = 860, 24
_TILE, _GAP = 72, 12
_LABEL = 120
_LETTER = 6.6
#: Of tiles side by side: width with room for a label, and how many there are in a row.
_COLUMN = _TILE + 24
_COLUMNS = (_WIDTH - 2 * _MARGIN + _GAP) // (_COLUMN + _GAP)
#: A text or an image and where it stands.
Placed = dict[str, Any]


def free_directory(parent: Path, name: str) -> Path:
    """``parent / name``, or the first of ``name-2``, ``name-3``, … that is not there."""
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(path for path in map(parent.joinpath, names) if not path.exists())


def check_directory(path: Path) -> None:
    """See that results can go to a new or empty directory.

    Raises:
        AdaptError: something is there, which must not be overwritten.
    """
    if path.is_dir() and not any(path.iterdir()):
        return
    if path.exists():
        raise AdaptError(f"{path} exists already and is kept: name a new directory with --out")


def write_adaptation(
    path: Path,
    model: TrainedModel,
    support: LabelledImages,
    queries: LabelledImages,
    fitted: FittedModel,
    predictions: Predictions,
    unlabeled: LabelledImages | None = None,
) -> dict[str, Any]:
    """Write table, picture and record to a new or empty directory; the record.

    Args:
        unlabeled: what else was learned from.

    Raises:
        AdaptError: see :func:`check_directory`.
    """
    check_directory(path)
    record = _record(model, support, queries, fitted, predictions)
    if unlabeled is not None:
        record["unlabeled"] = len(unlabeled)
        record["passed_over"] += [str(unlabeled.folder / name) for name in unlabeled.passed_over]
    with new_directory(path, replace=path.exists()) as temporary:
        (temporary / "predictions.csv").write_text(_table(queries, predictions), encoding="utf-8")
        (temporary / "predictions.svg").write_text(
            draw(record, support, queries, predictions), encoding="utf-8"
        )
        text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
        (temporary / "adaptation.json").write_text(text + "\n", encoding="utf-8")
    return record


def _record(
    model: TrainedModel,
    support: LabelledImages,
    queries: LabelledImages,
    fitted: FittedModel,
    predictions: Predictions,
) -> dict[str, Any]:
    facts = model.facts
    record: dict[str, Any] = {
        "run": facts["run"],
        "checkpoint": facts["checkpoint"],
        "recipe_hash": facts["recipe_hash"],
        "dataset": {k: facts[k] for k in ("dataset", "split", "dataset_digest")},
        "algorithm": model.trained.recipe.algorithm.name,
        "norm": model.trained.recipe.model.norm,
        "steps": fitted.steps,
        "labels": dict(zip(fitted.classes, fitted.shots, strict=True)),
        "queries": len(queries),
        "passed_over": [
            str(images.folder / name)
            for images in (support, queries)
            for name in images.passed_over
        ],
        "notes": list(predictions.notes),
    }
    if queries.labels is not None:
        right = sum(map(str.__eq__, queries.labels, predictions.labels))
        record |= {"right": right, ACCURACY.name: right / len(queries)}
    return record


def _table(queries: LabelledImages, predictions: Predictions) -> str:
    known = queries.labels
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    columns = [f"p({name})" for name in predictions.classes]
    writer.writerow(["file", "label", *(["true_label"] if known else []), *columns])
    rows = zip(queries.files, predictions.labels, predictions.probabilities, strict=True)
    for index, (file, label, probabilities) in enumerate(rows):
        truth = [known[index]] if known else []
        writer.writerow([file, label, *truth, *map(repr, probabilities.tolist())])
    return buffer.getvalue()


def draw(
    record: Mapping[str, Any],
    support: LabelledImages,
    queries: LabelledImages,
    predictions: Predictions,
) -> str:
    """The picture as the text of an SVG file; what is not drawn is counted in it."""
    sheet = _Sheet()
    sheet.text("title", cut(f"{record['run']}: {len(queries)} images labelled", 74))
    sheet.text("line", _summary(record))
    for note in record["notes"]:
        for line in textwrap.wrap(note, 118, break_long_words=False, break_on_hyphens=False):
            sheet.text("line", line)
    sheet.text("heading", "Support", "the labelled images it adapted to")
    images = {
        name: [row for row, label in enumerate(support.labels or ()) if label == name]
        for name in predictions.classes[:CLASSES]
    }
    if max(record["labels"].values()) == 1:
        sheet.grid([_support(support, name, rows[0], named=True) for name, rows in images.items()])
    else:
        for name, rows in images.items():
            sheet.row(name, [_support(support, name, row) for row in rows[:SHOTS]], len(rows))
    if len(predictions.classes) > CLASSES:
        sheet.text("line", f"and {plural(len(predictions.classes) - CLASSES, 'label')} more")
    shown = min(len(queries), QUERIES)
    told = "all of them" if shown == len(queries) else f"{shown} of {len(queries)}"
    sheet.text("heading", "Queries", f"{told}, with the label it predicts and its probability")
    # Evenly over all files: those of one class stand side by side.
    rows = [at * len(queries) // shown for at in range(shown)]
    sheet.grid([_query(queries, predictions, row) for row in rows])
    if shown < len(queries):
        sheet.text("line", f"{len(queries) - shown:,} more stand in predictions.csv")
    return sheet.svg()


def _support(support: LabelledImages, name: str, row: int, *, named: bool = False) -> Placed:
    label = cut(name, int(_COLUMN / _LETTER)) if named else ""
    return _tile(support.pixels[row], f"support image of {name}", label, full=name)


def _query(queries: LabelledImages, predictions: Predictions, row: int) -> Placed:
    name, sure = predictions.labels[row], percent(predictions.probabilities[row].max())
    told, mark, state = f"{queries.files[row]}: {name}, {sure}", "", ""
    if queries.labels is not None:
        right = (truth := queries.labels[row]) == name
        mark, state = (" ✓", "good") if right else (" ✗", "bad")
        told += "" if right else f"; it is {truth}"
    label = cut(name, int(_COLUMN / _LETTER) - len(mark)) + mark
    return _tile(queries.pixels[row], told, label, full=told, state=state, sure=sure)


def _tile(
    pixels: NDArray[np.uint8], told: str, label: str, full: str, state: str = "", sure: str = ""
) -> Placed:
    """An image, uint8 [H, W, C], and what stands below it.

    Args:
        told: of the image.
        full: the label uncut, or more of it.
        state: good, bad or, where the truth is unknown, empty.
        sure: the label's probability.
    """
    uri, small = png(pixels.transpose(2, 0, 1) / 255), max(pixels.shape[:2]) < _TILE
    look = {"uri": uri, "small": small, "told": told, "state": state}
    return {**look, "label": label, "full": full, "sure": sure}


def _summary(record: Mapping[str, Any]) -> str:
    shots, taken = record["labels"].values(), record["steps"]
    few, many = min(shots), max(shots)
    images = plural(many, "image") if few == many else f"{few} to {many} images"
    steps = "" if taken is None else f", {plural(taken, 'adaptation step')}"
    text = f"{record['algorithm']}, {len(shots)} classes with {images} each{steps}"
    if "right" in record:
        text += f"; {percent(record['right'] / record['queries'])} of the labels are right"
    return text


class _Sheet:
    """What stands where in a picture that grows downwards."""

    def __init__(self) -> None:
        self._y = _MARGIN
        self._texts: list[Placed] = []
        self._tiles: list[Placed] = []

    def text(self, kind: str, text: str, more: str = "") -> None:
        """A line of its own."""
        above, below = {"title": (14, 10), "heading": (30, 12), "line": (14, 4)}[kind]
        self._y += above
        self._write(kind, _MARGIN, self._y, text, more=more)
        self._y += below

    def row(self, name: str, tiles: Sequence[Placed], count: int) -> None:
        """A class: its label, some of its images, and how many more there are."""
        middle, x = self._y + _TILE // 2 + 4, _MARGIN + _LABEL
        self._write("row", _MARGIN, middle, cut(name, int((_LABEL - _GAP) / _LETTER)), full=name)
        for tile in tiles:
            self._tiles.append({**tile, "x": x, "y": self._y})
            x += _TILE + _GAP // 2
        if count > len(tiles):
            self._write("row", x, middle, f"+ {count - len(tiles)}")
        self._y += _TILE + _GAP // 2

    def grid(self, tiles: Sequence[Placed]) -> None:
        """Images side by side, below each its label and, if there is one, its probability."""
        judged = any(tile["sure"] for tile in tiles)
        height = _TILE + _GAP + (34 if judged else 20)
        for place, tile in enumerate(tiles):
            row, column = divmod(place, _COLUMNS)
            x, y = _MARGIN + column * (_COLUMN + _GAP), self._y + row * height
            self._tiles.append({**tile, "x": x, "y": y})
        self._y += -(-len(tiles) // _COLUMNS) * height - (0 if judged else _GAP)

    def svg(self) -> str:
        """The whole picture, as ``templates/predictions.svg.j2`` has it look."""
        size = {"width": _WIDTH, "height": self._y + _MARGIN, "side": _TILE}
        parts = {"texts": self._texts, "tiles": self._tiles}
        return standalone(page("report/templates/predictions.svg.j2", **size, **parts))

    def _write(self, kind: str, x: int, y: int, text: str, full: str = "", more: str = "") -> None:
        self._texts.append({"kind": kind, "x": x, "y": y, "text": text, "full": full, "more": more})
