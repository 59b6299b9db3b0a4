"""SNAIL: filters, size of embeddings, layers of a temporal convolution, rate."""

from metadist.space import Choice, Integers
from tune_spaces._strokes import METRIC, OUTER, strokes

SPACE = strokes(
    "SNAIL: filters, size of embeddings, layers of a temporal convolution, rate",
    {
        "outer.lr": OUTER,
        "algorithm.filters": Choice(16, 32, 64),
        "algorithm.embedding": Integers(16, 128, log=True),
        "algorithm.layers": Integers(2, 5),
    },
    METRIC,
    base="strokes-5w1s-snail",
)
