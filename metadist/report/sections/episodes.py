"""Test episodes with their predictions."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from metadist.report.phrases import plural
from metadist.report.sections.regression_plots import fits, inputs
from metadist.runs.readers.run_data import Arrays
from metadist.statistics.format import percent

#: Episodes drawn, and tiles of queries per episode.
EPISODES = 4
_QUERIES = 15


def label(way: int) -> str:
    """A way's name. Ways are numbered anew in each episode, so a letter says as much as a digit."""
    return chr(ord("A") + way) if 0 <= way < 26 else str(way + 1)


def png(image: NDArray[np.floating]) -> str:
    """An image [C, H, W] with values in [0, 1] as a data URI."""
    pixels = np.nan_to_num(np.clip(image.astype(np.float64), 0, 1) * 255).round().astype(np.uint8)
    pixels = pixels.transpose(1, 2, 0) if pixels.shape[0] == 3 else pixels[0]
    picture = Image.fromarray(np.ascontiguousarray(pixels))  # RGB, or grey
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def shown_episodes(examples: Arrays, trained_steps: int) -> dict[str, Any]:
    """The first few test episodes, ``shown``: images with predictions, or functions of so many
    ``inputs`` with fits after up to so many ``steps``."""
    if examples["support_x"].ndim == 5 and examples["query_y"].dtype.kind == "i":
        rows = range(min(EPISODES, len(examples["ids"])))
        return {"inputs": 0, "shown": [_images(examples, row, trained_steps) for row in rows]}
    drawn = fits(examples, trained_steps, EPISODES)
    shown = [_errors(examples, row, trained_steps) | {"svg": svg} for row, svg in drawn]
    steps = examples["outputs"].shape[1] - 1
    return {"inputs": inputs(examples), "steps": steps, "shown": shown}


def _errors(examples: Arrays, row: int, trained_steps: int) -> dict[str, Any]:
    outputs = examples["outputs"][row].astype(np.float64)
    truth = examples["query_y"][row].reshape(outputs.shape[1], -1).astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        squares = ((outputs - truth[None]) ** 2).mean((1, 2))
    told = [f"{s:.3g}" if np.isfinite(s) else "not finite" for s in squares]
    last = len(told) - 1
    trained = min(trained_steps, last)
    after = f" after {trained}" if last else ""
    after += f", {told[-1]} after {last}" if trained < last else ""
    before = told[0] if last else ""
    return {"queries": len(truth), "before": before, "trained": told[trained], "after": after}


def _images(examples: Arrays, row: int, trained_steps: int) -> dict[str, Any]:
    outputs = examples["outputs"][row].astype(np.float64)
    truth = examples["query_y"][row].astype(np.int64)
    trained = min(trained_steps, len(outputs) - 1)
    # As in the figures: an episode with an output that is not finite has accuracy 0.
    finite = np.isfinite(outputs).all((1, 2))
    right = (outputs.argmax(-1) == truth[None]).mean(1) * finite
    ways = outputs.shape[-1]
    support_y = examples["support_y"][row].astype(np.int64)
    # A row of tiles holds one query of each class, below the support of its class.
    each = max(1, _QUERIES // ways)
    of_way = [np.flatnonzero(truth == way)[:each] for way in range(ways)]
    shown = [int(of[i]) for i in range(each) for of in of_way if i < len(of)]
    count = f"{len(shown)} of {len(truth)}" if len(shown) < len(truth) else f"all {len(truth)}"
    return {
        "id": int(examples["ids"][row]),
        "before": percent(right[0], 0),
        "after": percent(right[trained], 0),
        "steps": plural(trained, "step") if len(outputs) > 1 else "",
        "support": [
            (label(way), [png(image) for image in examples["support_x"][row][support_y == way]])
            for way in range(ways)
        ],
        "count": count,
        "queries": [
            _tile(examples["query_x"][row][i], int(truth[i]), outputs[trained, i]) for i in shown
        ],
    }


def _tile(image: NDArray[np.floating], truth: int, logits: NDArray[np.float64]) -> dict[str, Any]:
    guess, said, sure = -1, "not finite", ""
    if np.isfinite(logits).all():
        guess = int(logits.argmax())
        powers = np.exp(logits - logits.max())
        said, sure = label(guess), percent(powers[guess] / powers.sum(), 0)
    return {
        "image": png(image),
        "truth": label(truth),
        "said": said,
        "sure": sure,
        "right": guess == truth,
    }
