"""T-net: learning rates."""

from tune_spaces._strokes import RATES, strokes

SPACE = strokes("T-net: learning rates", RATES, {"algorithm.name": "tnet"})
