"""Nearest neighbour on pixels: what it compares and how. A grid of four; nothing is trained."""

from metadist.space import Choice
from tune_spaces._strokes import strokes

SPACE = strokes(
    "Nearest neighbour on pixels: rule, metric",
    {
        "algorithm.rule": Choice("nearest", "mean"),
        "algorithm.metric": Choice("cosine", "euclidean"),
    },
    {"algorithm.name": "nearest_pixels"},
    searcher="grid",
    trials=4,
    steps=1,
    every=1,
    scheduler=None,
)
