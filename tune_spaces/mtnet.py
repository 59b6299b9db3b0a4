"""MT-net: learning rates, with or without transforms, and how its masks are drawn."""

from metadist.space import Choice, LogUniform, When
from tune_spaces._strokes import RATES, strokes

SPACE = strokes(
    "MT-net and M-net: learning rates, transform, masks",
    {
        **RATES,
        "algorithm.transform": Choice(True, False),
        "algorithm.mask": Choice("hard", "soft"),
        "algorithm.temperature": When("algorithm.mask", ("soft",), LogUniform(0.3, 3.0)),
    },
    {"algorithm.name": "mtnet"},
)
