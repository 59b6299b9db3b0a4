"""MANN: units, memory, heads, usage, rate."""

from metadist.space import Choice, Integers, Uniform
from tune_spaces._strokes import METRIC, OUTER, strokes

SPACE = strokes(
    "MANN: units, memory, heads, usage, rate",
    {
        "outer.lr": OUTER,
        "algorithm.units": Integers(50, 300, log=True),
        "algorithm.memory_rows": Choice(32, 64, 128),
        "algorithm.memory_width": Choice(20, 40),
        "algorithm.heads": Integers(1, 4),
        "algorithm.usage_decay": Uniform(0.9, 0.99),
    },
    METRIC,
    base="strokes-5c10i-mann",
)
