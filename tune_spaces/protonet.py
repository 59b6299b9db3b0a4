"""Prototypical networks: what is near, its scale, ways in training, rate."""

from metadist.space import Choice, LogUniform
from tune_spaces._strokes import METRIC, OUTER, strokes

SPACE = strokes(
    "Prototypical networks: metric, scale, ways in training, rate",
    {
        "outer.lr": OUTER,
        "data.ways": Choice(5, 10, 20),
        "algorithm.metric": Choice("squared_euclidean", "cosine"),
        "algorithm.scale": LogUniform(0.1, 30.0),
    },
    METRIC,
    base="strokes-5w1s-protonet",
)
