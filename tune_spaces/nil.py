"""NIL: learning rates of its training, which is ANIL's; what it compares at test time."""

from tune_spaces._strokes import RATES, strokes

SPACE = strokes("NIL: learning rates of training", RATES, {"algorithm.name": "nil"})
