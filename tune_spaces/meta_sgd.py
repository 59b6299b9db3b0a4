"""Meta-SGD: where its learned step sizes start, and the outer learning rate."""

from tune_spaces._strokes import RATES, strokes

SPACE = strokes(
    "Meta-SGD: first step size, outer learning rate", RATES, {"algorithm.name": "meta_sgd"}
)
