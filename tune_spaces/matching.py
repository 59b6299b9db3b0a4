"""Matching networks: scale of the cosines, context embeddings, rate."""

from metadist.space import Choice, Integers, LogUniform
from tune_spaces._strokes import METRIC, OUTER, strokes

SPACE = strokes(
    "Matching networks: scale of the cosines, context embeddings, rate",
    {
        "outer.lr": OUTER,
        "algorithm.scale": LogUniform(1.0, 100.0),
        "algorithm.support_lstm": Choice(False, True),
        "algorithm.query_lstm_steps": Integers(0, 3),
    },
    {**METRIC, "algorithm.name": "matching"},
    base="strokes-5w1s-protonet",
)
