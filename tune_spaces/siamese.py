"""Siamese networks: size of what is compared, how pairs are weighted, ways in training, rate."""

from metadist.space import Choice, Integers
from tune_spaces._strokes import METRIC, OUTER, strokes

SPACE = strokes(
    "Siamese networks: features, weights of pairs, ways in training, rate",
    {
        "outer.lr": OUTER,
        "data.ways": Choice(5, 10, 20),
        "algorithm.embedding": Integers(32, 512, log=True),
        "algorithm.pairs": Choice("balanced", "all"),
        "algorithm.distortions": Choice("none", "affine"),
    },
    METRIC,
    base="strokes-5w1s-siamese",
)
