"""First-order MAML: learning rates and number of adaptation steps."""

from metadist.space import Integers
from tune_spaces._strokes import RATES, strokes

SPACE = strokes(
    "First-order MAML: learning rates, adaptation steps",
    {**RATES, "inner.steps": Integers(1, 5)},
    {"algorithm.name": "fomaml"},
)
