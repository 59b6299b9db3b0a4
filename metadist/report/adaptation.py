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
from html import escape
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
from metadist.report.phrases import plural
from metadist.report.sections.episodes import png
from metadist.report.svg import standalone
from metadist.statistics.format import percent

#: Most that is drawn: classes, support images of each, queries.
CLASSES, SHOTS, QUERIES = 20, 8, 40
_WIDTH, _MARGIN = 860, 24
_TILE, _GAP = 72, 12
_LABEL = 120
_LETTER = 6.6
#: Of tiles side by side: width with room for a label, and how many there are in a row.
_COLUMN = _TILE + 24
_COLUMNS = (_WIDTH - 2 * _MARGIN + _GAP) // (_COLUMN + _GAP)


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
    page = _Page()
    page.title(_clip(f"{record['run']}: {len(queries)} images labelled", 74))
    page.text(_summary(record))
    for note in record["notes"]:
        for line in textwrap.wrap(note, 118, break_long_words=False, break_on_hyphens=False):
            page.text(line)
    page.heading("Support", "the labelled images it adapted to")
    images = {
        name: [row for row, label in enumerate(support.labels or ()) if label == name]
        for name in predictions.classes[:CLASSES]
    }
    if max(record["labels"].values()) == 1:
        page.side_by_side({name: support.pixels[rows[0]] for name, rows in images.items()})
    else:
        for name, rows in images.items():
            page.row(name, [support.pixels[row] for row in rows[:SHOTS]], len(rows))
    if len(predictions.classes) > CLASSES:
        page.text(f"and {plural(len(predictions.classes) - CLASSES, 'label')} more")
    shown = min(len(queries), QUERIES)
    told = "all of them" if shown == len(queries) else f"{shown} of {len(queries)}"
    page.heading("Queries", f"{told}, with the label it predicts and its probability")
    # Evenly over all files: those of one class stand side by side.
    page.tiles(queries, predictions, [at * len(queries) // shown for at in range(shown)])
    if shown < len(queries):
        page.text(f"{len(queries) - shown:,} more stand in predictions.csv")
    return page.svg()


def _summary(record: Mapping[str, Any]) -> str:
    shots, taken = record["labels"].values(), record["steps"]
    few, many = min(shots), max(shots)
    images = plural(many, "image") if few == many else f"{few} to {many} images"
    steps = "" if taken is None else f", {plural(taken, 'adaptation step')}"
    text = f"{record['algorithm']}, {len(shots)} classes with {images} each{steps}"
    if "right" in record:
        text += f"; {percent(record['right'] / record['queries'])} of the labels are right"
    return text


class _Page:
    """An SVG that grows downwards."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._y = float(_MARGIN)

    def title(self, text: str) -> None:
        self._y += 14
        self._write(_MARGIN, self._y, text, 'font-size="18" font-weight="650" fill="var(--fg)"')
        self._y += 10

    def text(self, text: str) -> None:
        self._y += 14
        self._write(_MARGIN, self._y, text, 'font-size="12" fill="var(--muted)"')
        self._y += 4

    def heading(self, text: str, more: str) -> None:
        self._y += 30
        note = f'<tspan dx="8" font-weight="400" fill="var(--muted)">{escape(more)}</tspan>'
        style = 'font-size="14" font-weight="600" fill="var(--fg)"'
        self._parts.append(
            f'<text x="{_MARGIN}" y="{self._y:g}" {style}>{escape(text)}{note}</text>'
        )
        self._y += 12

    def row(self, name: str, images: Sequence[NDArray[np.uint8]], count: int) -> None:
        """A class: its label, some of its images, and how many more there are."""
        style = 'font-size="13" fill="var(--fg)"'
        middle = self._y + _TILE / 2 + 4
        self._write(_MARGIN, middle, _clip(name, int(_LABEL / _LETTER)), style, full=name)
        for index, image in enumerate(images):
            x = _MARGIN + _LABEL + index * (_TILE + _GAP / 2)
            self._image(x, self._y, image, f"support image of {name}", "var(--grid)")
        if count > len(images):
            x = _MARGIN + _LABEL + len(images) * (_TILE + _GAP / 2)
            self._write(x, middle, f"+ {count - len(images)}", style)
        self._y += _TILE + _GAP / 2

    def side_by_side(self, images: Mapping[str, NDArray[np.uint8]]) -> None:
        """Classes of one image each, with their labels."""
        height = _TILE + 20 + _GAP
        for place, (name, image) in enumerate(images.items()):
            x, y = self._place(place, height)
            self._image(x, y, image, f"support image of {name}", "var(--grid)")
            clipped = _clip(name, int(_COLUMN / _LETTER))
            self._write(x, y + _TILE + 16, clipped, 'font-size="12" fill="var(--fg)"', full=name)
        self._y += -(-len(images) // _COLUMNS) * height - _GAP

    def _place(self, place: int, height: float) -> tuple[float, float]:
        row, column = divmod(place, _COLUMNS)
        return _MARGIN + column * (_COLUMN + _GAP), self._y + row * height

    def tiles(self, queries: LabelledImages, predictions: Predictions, rows: Sequence[int]) -> None:
        """Queries side by side, each with its label, probability and whether it is right."""
        height = _TILE + 34 + _GAP
        sure = predictions.probabilities.max(1)
        for place, index in enumerate(rows):
            x, y = self._place(place, height)
            name = predictions.labels[index]
            truth = None if queries.labels is None else queries.labels[index]
            colour, mark = "var(--grid)", ""
            if truth is not None:
                right = truth == name
                colour, mark = ("var(--good)", " ✓") if right else ("var(--bad)", " ✗")
            told = f"{queries.files[index]}: {name}, {percent(sure[index])}"
            told += "" if truth in (None, name) else f"; it is {truth}"
            self._image(x, y, queries.pixels[index], told, colour)
            clipped = _clip(name, int(_COLUMN / _LETTER) - len(mark))
            style = f'font-size="12" fill="{"var(--fg)" if truth is None else colour}"'
            self._write(x, y + _TILE + 16, clipped + mark, style, full=told)
            style = 'font-size="11" fill="var(--muted)"'
            self._write(x, y + _TILE + 30, percent(sure[index]), style)
        self._y += -(-len(rows) // _COLUMNS) * height

    def svg(self) -> str:
        """The whole picture."""
        view = f'viewBox="0 0 {_WIDTH} {self._y + _MARGIN:g}"'
        label = 'role="img" aria-label="Support images by class, and queries with predictions"'
        head = f'<svg id="predictions" {view} xmlns="http://www.w3.org/2000/svg" {label}'
        font = 'font-family="DejaVu Sans, Verdana, sans-serif"'
        return standalone(f"{head}><g {font}>{''.join(self._parts)}</g></svg>")

    def _image(self, x: float, y: float, pixels: NDArray[np.uint8], told: str, colour: str) -> None:
        size = f'width="{_TILE}" height="{_TILE}"'
        uri = png(pixels.transpose(2, 0, 1) / 255)
        small = max(pixels.shape[:2]) < _TILE
        look = 'style="image-rendering: pixelated"' if small else ""
        self._parts.append(
            f'<g><title>{_safe(told)}</title><image x="{x:g}" y="{y:g}" {size} {look} '
            f'href="{uri}"/><rect x="{x:g}" y="{y:g}" {size} fill="none" stroke="{colour}" '
            'stroke-width="2"/></g>'
        )

    def _write(self, x: float, y: float, text: str, style: str, full: str = "") -> None:
        title = f"<title>{_safe(full)}</title>" if full and full != text else ""
        self._parts.append(f'<text x="{x:g}" y="{y:g}" {style}>{title}{_safe(text)}</text>')


def _safe(text: str) -> str:
    """Text of files' names for XML, which has no control characters."""
    return escape("".join(letter if letter.isprintable() else "\ufffd" for letter in text))


def _clip(text: str, letters: int) -> str:
    return text if len(text) <= letters else text[: letters - 1] + "…"
