"""Test episodes drawn with their predictions, as HTML."""

from __future__ import annotations

import base64
import io
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from metadist.report.phrases import plural
from metadist.report.sections.regression_plots import fits, reading_aid
from metadist.runs.readers.run_data import Arrays
from metadist.statistics.format import percent

#: Episodes drawn, and tiles of queries per episode.
EPISODES = 4
_QUERIES = 15
#: Most ways that stand in columns; more flow over the width of the page.
_COLUMNS = 6


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


def draw_episodes(examples: Arrays, trained_steps: int) -> str:
    """The first few test episodes: images with predictions, or functions with fits."""
    if examples["support_x"].ndim == 5 and examples["query_y"].dtype.kind == "i":
        rows = range(min(EPISODES, len(examples["ids"])))
        aid, blocks = "", [_image_episode(examples, row, trained_steps) for row in rows]
    else:
        aid = f"<p>{escape(reading_aid(examples))}</p>"
        blocks = [
            f'<figure class="card">{svg}{_errors(examples, row, trained_steps)}</figure>'
            for row, svg in fits(examples, trained_steps, EPISODES)
        ]
    return f'{aid}<div class="grid">{"".join(blocks)}</div>'


def _errors(examples: Arrays, row: int, trained_steps: int) -> str:
    outputs = examples["outputs"][row].astype(np.float64)
    truth = examples["query_y"][row].reshape(outputs.shape[1], -1).astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        squares = ((outputs - truth[None]) ** 2).mean((1, 2))
    told = [f"{s:.3g}" if np.isfinite(s) else "not finite" for s in squares]
    last = len(told) - 1
    trained = min(trained_steps, last)
    before = f"{told[0]} before adaptation, " if last else ""
    after = f" after {trained}" if last else ""
    beyond = f", {told[-1]} after {last}" if trained < last else ""
    return (
        f"<figcaption>Mean squared error on its {outputs.shape[1]} queries: "
        f"{before}<b>{told[trained]}</b>{after}{beyond}.</figcaption>"
    )


def _image_episode(examples: Arrays, row: int, trained_steps: int) -> str:
    outputs = examples["outputs"][row].astype(np.float64)
    truth = examples["query_y"][row].astype(np.int64)
    trained = min(trained_steps, len(outputs) - 1)
    # As in the figures: an episode with an output that is not finite has accuracy 0.
    finite = np.isfinite(outputs).all((1, 2))
    right = (outputs.argmax(-1) == truth[None]).mean(1) * finite
    told = f"<b>{percent(right[0], 0)} right</b>"
    if len(outputs) > 1:
        told = (
            f'{percent(right[0], 0)} right before adaptation <span aria-hidden="true">→</span> '
            f"<b>{percent(right[trained], 0)} after {plural(trained, 'step')}</b>"
        )
    ways = outputs.shape[-1]
    support_y = examples["support_y"][row].astype(np.int64)
    support = "".join(
        _way(way, examples["support_x"][row][support_y == way]) for way in range(ways)
    )
    # A row of tiles holds one query of each class, below the support of its class.
    each = max(1, _QUERIES // ways)
    of_way = [np.flatnonzero(truth == way)[:each] for way in range(ways)]
    shown = [int(of[i]) for i in range(each) for of in of_way if i < len(of)]
    tiles = "".join(
        _tile(examples["query_x"][row][i], int(truth[i]), outputs[trained, i]) for i in shown
    )
    count = f"{len(shown)} of {len(truth)}" if len(shown) < len(truth) else f"all {len(truth)}"
    wide = ways > _COLUMNS
    layout = '"tiles"' if wide else f'"tiles columns" style="--ways: {ways}"'
    return f"""<article class="card episode{" wide" if wide else ""}">
<h3>Test episode {int(examples["ids"][row])}</h3>
<p class="before-after">{told}</p>
<h4>Support <span class="muted">the labelled examples it learns from</span></h4>
<div class={layout}>{support}</div>
<h4>Queries <span class="muted">{count}, with the labels it predicts</span></h4>
<div class={layout}>{tiles}</div>
</article>"""


def _way(way: int, images: NDArray[np.floating]) -> str:
    pictures = "".join(
        f'<img src="{png(image)}" alt="support image of class {label(way)}">' for image in images
    )
    return (
        f'<figure class="tile way{" several" if len(images) > 1 else ""}"><div>{pictures}</div>'
        f"<figcaption>{escape(label(way))}</figcaption></figure>"
    )


def _tile(image: NDArray[np.floating], truth: int, logits: NDArray[np.float64]) -> str:
    if not np.isfinite(logits).all():
        state, verdict, said, sure = "bad", "✗", "not finite", ""
    else:
        guess = int(logits.argmax())
        powers = np.exp(logits - logits.max())
        sure = percent(powers[guess] / powers.sum(), 0)
        said = label(guess)
        state, verdict = ("ok", "✓") if guess == truth else ("bad", "✗")
    note = "" if state == "ok" else f"<small>is {escape(label(truth))}</small>"
    alt = f"query of class {label(truth)}, predicted {said}"
    return (
        f'<figure class="tile {state}" title="{escape(f"{alt}, {sure} sure")}">'
        f'<img src="{png(image)}" alt="{escape(alt)}">'
        f"<figcaption>{escape(said)} <span>{verdict}</span>{note}</figcaption></figure>"
    )
