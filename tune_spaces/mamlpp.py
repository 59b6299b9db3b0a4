"""MAML++: learning rates, and which of its parts are switched on."""

from metadist.space import Choice, When
from tune_spaces._strokes import RATES, strokes

SPACE = strokes(
    "MAML++: learning rates, multi-step loss, learned step sizes, norm parameters per step",
    {
        **RATES,
        "algorithm.multi_step": Choice(True, False),
        # So short that the weights of the multi-step loss reach their end within a trial.
        "algorithm.epoch_steps": When("algorithm.multi_step", (True,), Choice(8, 16, 24)),
        "algorithm.learned_step_sizes": Choice(True, False),
        "algorithm.per_step_norm": Choice(True, False),
    },
    {"algorithm.name": "mamlpp", "inner.steps": 3},
)
