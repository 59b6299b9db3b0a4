"""Nearest neighbour on embeddings of a classifier: the classifier's rate, rule and metric."""

from metadist.space import Choice
from tune_spaces._strokes import OUTER, strokes

SPACE = strokes(
    "Nearest neighbour on embeddings: rate of the classifier, rule, metric",
    {
        "outer.lr": OUTER,
        "algorithm.rule": Choice("nearest", "mean"),
        "algorithm.metric": Choice("cosine", "euclidean"),
    },
    {"algorithm.name": "nearest_embedding"},
)
