"""Inner and outer learning rate of MAML with one adaptation step, on the embedded characters."""

from tune_spaces._strokes import RATES, strokes

SPACE = strokes("MAML, one adaptation step: inner and outer learning rate", RATES)
