"""Relation networks: size of what compares, and how large the compared maps are; rate."""

from metadist.space import Choice
from tune_spaces._strokes import METRIC, OUTER, strokes

SPACE = strokes(
    "Relation networks: size of what compares, size of maps, rate",
    {
        "outer.lr": OUTER,
        "model.halvings": Choice(2, 3),
        "algorithm.channels": Choice(16, 32, 64),
        "algorithm.hidden": Choice(8, 32),
    },
    {**METRIC, "algorithm.name": "relation", "data.ways": 5},
    base="strokes-5w1s-protonet",
)
