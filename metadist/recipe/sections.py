"""The sections of a recipe, key by key: types, bounds and defaults."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from metadist.overrides import Declared
from metadist.recipe.rate_changes import RateChanges

#: Upper bounds, far beyond every published setting. What is above is a slip of the keyboard, which
#: would otherwise end in a lack of memory, or not at all.
MOST_EXAMPLES = 10**5
MOST_STEPS = 10**4
MOST_TASKS = 10**6
MOST_UPDATES = 10**9
#: Of episodes times adaptation steps of one evaluation: rows of its table, which is kept in memory.
MOST_ROWS = 10**8

Examples = Annotated[int, Field(ge=1, le=MOST_EXAMPLES)]
MaybeExamples = Annotated[int, Field(ge=0, le=MOST_EXAMPLES)]
Ways = Annotated[int, Field(ge=0, le=MOST_EXAMPLES)]
Steps = Annotated[int, Field(ge=0, le=MOST_STEPS)]
Tasks = Annotated[int, Field(ge=1, le=MOST_TASKS)]
Updates = Annotated[int, Field(ge=1, le=MOST_UPDATES)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


def too_many_rows(episodes: int, steps: int) -> str:
    """What is wrong with the size of an evaluation's table, episodes x (steps + 1); or nothing."""
    rows = episodes * (steps + 1)
    if rows <= MOST_ROWS:
        return ""
    return (
        f"at most {MOST_ROWS} results are kept of an evaluation, {episodes} episodes with "
        f"{steps} adaptation steps have {rows}; lower one of them"
    )


class _OpenSection(Declared):
    """A section whose further keys are the options of the part it names, checked by that part."""

    model_config = ConfigDict(extra="allow")

    name: str

    @property
    def options(self) -> dict[str, Any]:
        """The keys beside ``name``."""
        return dict(self.__pydantic_extra__ or {})


class DataSection(Declared):
    """Which episodes the run learns from.

    ``unlabeled`` are further images of each class, or points of a function, whose labels are
    hidden; ``distractors`` further classes with as many, which are none of the ways. Both are of
    all episodes, of training and evaluation.
    """

    dataset: str
    split: str = ""
    ways: Ways = 5
    shots: Examples = 1
    queries: Examples = 1
    rotations: Literal["none", "per_episode", "as_classes"] = "none"
    labels: Literal["permuted", "fixed"] = "permuted"
    unlabeled: MaybeExamples = 0
    distractors: MaybeExamples = 0
    episodes: Updates | Literal["unlimited"] = "unlimited"
    seed: Seed = 0
    storage: Literal["live", "shards"] = "live"
    store: str = ""


class ModelSection(_OpenSection):
    """Which backbone, with its options, and how normalisation layers get their statistics."""

    norm: Literal["transductive", "support", "running", "none"] = "transductive"


class AlgorithmSection(_OpenSection):
    """Which learner, with its options."""


class ObjectiveSection(_OpenSection):
    """What predictions are trained for and judged by; no name: as usual for what is predicted,
    cross-entropy and accuracy of labels, squared error of values."""

    name: str = ""


class InnerSection(Declared):
    """Adaptation. ``loss`` is the reduction of the support loss: MAML's published step sizes
    belong to ``sum_over_ways``, which is N times the mean cross-entropy. ``lr_changes``: other
    rates after so many outer steps, as in ``120: 0.3, 180: 0.1``."""

    lr: float = Field(0.01, gt=0)
    lr_changes: RateChanges = ()
    steps: Steps = 1
    loss: Literal["mean", "sum_over_ways"] = "mean"


class OuterSection(Declared):
    """Meta-optimisation. ``batch`` is tasks per outer step; ``clip`` bounds each entry of the
    averaged meta-gradient (0: no bound). ``lr_changes`` as in ``inner``, of a constant schedule."""

    optimizer: Literal["adam", "sgd"] = "adam"
    lr: float = Field(1e-3, gt=0)
    lr_changes: RateChanges = ()
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    final_lr: float = Field(0.0, ge=0)
    steps: Updates = 1000
    batch: Tasks = 32
    clip: float = Field(0.0, ge=0)


class EvalSection(Declared):
    """Evaluation on fixed episodes of unseen classes.

    ``queries`` is the recipe's own protocol, ``extra_queries`` a second one beside it (0: none);
    ``steps`` are adaptation steps at test time, ``ways`` and ``shots`` the shape of episodes at
    validation and test (0: as in training); validation runs on ``val_episodes`` episodes after
    every ``every`` outer steps. ``chunk`` episodes are computed together.
    """

    seed: Seed = 0
    episodes: Tasks = 600
    queries: Examples = 1
    extra_queries: MaybeExamples = 15
    steps: Steps = 0
    every: Updates = 500
    val_episodes: Tasks = 200
    ways: Ways = 0
    shots: MaybeExamples = 0
    chunk: Tasks = 1


class EngineSection(Declared):
    """How gradients are computed and summed. Frozen in the run; never depends on its workers."""

    mode: Literal["loop", "vmap"] = "loop"
    chunk: Tasks = 1
    dtype: Literal["float32", "float64"] = "float32"
    reduction: Literal["exact", "fast"] = "exact"
    on_nonfinite: Literal["stop", "skip"] = "stop"


class RunSection(Declared):
    """Seed of initialisation and random keys; cadence and number of checkpoints (not hashed)."""

    seed: Seed = 0
    checkpoint_every: Updates = 200
    keep: Updates = 3
