"""Inner and outer learning rate of MAML with five adaptation steps."""

from tune_spaces._strokes import RATES, strokes

SPACE = strokes(
    "MAML, five adaptation steps: inner and outer learning rate", RATES, {"inner.steps": 5}
)
