"""MAML with an adapted input bias: learning rates and size of the bias."""

from metadist.space import Integers
from tune_spaces._strokes import RATES, strokes

SPACE = strokes(
    "MAML with an adapted input bias: learning rates, size",
    {**RATES, "algorithm.size": Integers(4, 64, log=True)},
    {"algorithm.name": "maml_input_bias"},
)
