"""Graph neural networks: width, size of embeddings, rate."""

from metadist.space import Choice, Integers
from tune_spaces._strokes import METRIC, OUTER, strokes

SPACE = strokes(
    "Graph neural networks: width, size of embeddings, rate",
    {
        "outer.lr": OUTER,
        "algorithm.width": Choice(16, 32, 64, 96),
        "algorithm.embedding": Integers(16, 128, log=True),
    },
    METRIC,
    base="strokes-5w1s-gnn",
)
