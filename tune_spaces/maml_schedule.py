"""A schedule of MAML's learning rates, by population-based training."""

from metadist.space import Population
from tune_spaces._strokes import RATES, strokes

SPACE = strokes(
    "MAML: a schedule of inner and outer learning rate, by a population",
    RATES,
    searcher="random",
    trials=8,
    scheduler=Population(interval=2),
)
