"""The sections of a recipe, key by key: types, bounds, defaults, and what each key is for.

What stands below a key is its description in the schema, and so on the page that is made of it.
"""

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
    """Which episodes the run learns from."""

    dataset: str
    """an image dataset, a family of functions or a source of episodes; `metadist data list`; see
    docs/add-a-dataset.md"""
    split: str = ""
    """named division of the classes; empty: the dataset's default; images only"""
    ways: Ways = 5
    """classes per task in training; 0 for families of functions"""
    shots: Examples = 1
    """support images per class, or support points, in training"""
    queries: Examples = 1
    """query images per class, or query points, in training"""
    rotations: Literal["none", "per_episode", "as_classes"] = "none"
    """quarter turns; see docs/norm-and-protocols.md"""
    labels: Literal["permuted", "fixed"] = "permuted"
    """a class has another label in every episode, or the same one always; images only; see
    docs/norm-and-protocols.md#fixed-labels"""
    unlabeled: MaybeExamples = 0
    """further images per class, or points, whose labels are hidden, in training and evaluation; see
    docs/norm-and-protocols.md#unlabeled-images"""
    distractors: MaybeExamples = 0
    """further classes with as many unlabeled images each, none of them one of the ways; images
    only"""
    within: Literal["all", "group"] = "all"
    """classes of a task are any, or of one group, such as an alphabet; images only; see
    docs/norm-and-protocols.md#within-an-alphabet"""
    drawer: Literal["any", "same"] = "any"
    """the first image of each class, the second and so on are by any drawers, or by the same one;
    images only"""
    attributes: bool = False
    """tell of each class its attributes, numbers beside its images, in training and evaluation;
    images only; see docs/norm-and-protocols.md#class-attributes"""
    episodes: Updates | Literal["unlimited"] = "unlimited"
    """size of the bank of training episodes that is walked through again and again"""
    seed: Seed = 0
    """of the training episodes"""
    storage: Literal["live", "shards"] = "live"
    """draw episodes while training, or read them from shards"""
    partition: str = ""
    """name of partitions that `metadist data cluster` has made of the training images: in training
    their clusters stand for classes; images only; see docs/without-labels.md"""
    store: str = ""
    """name the store was prepared under; empty: DATASET-SPLIT; images only"""


class ModelSection(_OpenSection):
    """Which network, with its options."""

    name: str
    """a backbone, or one of your own (docs/add-a-backbone.md)"""
    norm: Literal["transductive", "support", "running", "none"] = "transductive"
    """where normalisation takes its statistics from; see docs/norm-and-protocols.md; a network
    without normalisation takes `none` and no other"""


class AlgorithmSection(_OpenSection):
    """Which learner, with its options."""

    name: str
    """a learner or a baseline; docs/algorithms.md says what each is"""


class ObjectiveSection(_OpenSection):
    """What predictions are trained for and judged by."""

    name: str = ""
    """empty: `classification` (cross-entropy and accuracy) where labels are predicted, `regression`
    (squared error) where values are; see docs/add-an-objective.md"""


class InnerSection(Declared):
    """Adaptation to a task."""

    lr: float = Field(0.01, gt=0)
    """step size"""
    lr_changes: RateChanges = ()
    """other step sizes after so many outer steps, as in `[[120, 0.3], [180, 0.1]]`, or as a string
    `"120: 0.3, 180: 0.1"`; not for learners that learn their step sizes"""
    steps: Steps = 1
    """gradient steps in training"""
    loss: Literal["mean", "sum_over_ways"] = "mean"
    """reduction of the support loss where labels are predicted, whatever the objective: its mean,
    or N times it for N ways, to which MAML's published step sizes (of a cross-entropy) belong;
    where values are predicted it is always the mean"""


class OuterSection(Declared):
    """Meta-training."""

    optimizer: Literal["adam", "sgd"] = "adam"
    """PyTorch's, with its defaults beside the learning rate"""
    lr: float = Field(1e-3, gt=0)
    """learning rate"""
    lr_changes: RateChanges = ()
    """other learning rates after so many outer steps, as in `[[120, 0.003], [180, 0.001]]`; with a
    constant schedule"""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """of the learning rate over `outer.steps`; only a constant one lets a finished run be given
    more steps"""
    final_lr: float = Field(0.0, ge=0)
    """where `linear` and `cosine` end"""
    steps: Updates = 1000
    """outer updates"""
    batch: Tasks = 32
    """tasks per update, over all workers"""
    clip: float = Field(0.0, ge=0)
    """bound of each entry of the averaged meta-gradient; 0: none"""


class EvalSection(Declared):
    """Evaluation on fixed episodes of unseen classes."""

    seed: Seed = 0
    """of validation and test episodes"""
    episodes: Tasks = 600
    """test tasks"""
    queries: Examples = 1
    """queries per class (or points) in validation and in the recipe's own test protocol"""
    extra_queries: MaybeExamples = 15
    """those of a second test protocol; 0: none"""
    steps: Steps = 0
    """adaptation steps at evaluation; 0: as in training, else at least `inner.steps`"""
    every: Updates = 500
    """outer steps between validations"""
    val_episodes: Tasks = 200
    """validation tasks"""
    ways: Ways = 0
    """classes per task in validation and test; 0: as in training; see
    docs/norm-and-protocols.md#ways-and-shots"""
    shots: MaybeExamples = 0
    """support images per class, or points, in validation and test; 0: as in training"""
    within: Literal["as_trained", "all", "group"] = "as_trained"
    """as `data.within`, in validation and test"""
    drawer: Literal["as_trained", "any", "same"] = "as_trained"
    """as `data.drawer`, in validation and test"""
    chunk: Tasks = 1
    """episodes that are computed together at evaluation"""
    verification: bool = False
    """measure, too, how well it is told whether a query and a support example are of the same
    class; learners that compare examples only; see docs/norm-and-protocols.md#verification"""


class EngineSection(Declared):
    """How gradients are computed and summed. Frozen in the run; never depends on its workers."""

    mode: Literal["loop", "vmap"] = "loop"
    """the tasks of a chunk one after the other, or all at once (small networks)"""
    chunk: Annotated[int, Field(ge=0, le=MOST_TASKS)] = 0
    """tasks of the smallest piece of work that one worker gets; at most `outer.batch` with `loop`;
    0: one, with compiled kernels an eighth of `outer.batch`, at most 8"""
    kernels: Literal["torch", "fused"] = "torch"
    """who computes passes through `conv4` and `mlp`: torch, or compiled kernels where they know the
    pass, two to three times as fast (not under `vmap`, not with `model.norm = "support"`)"""
    dtype: Literal["float32", "float64"] = "float32"
    """of parameters and computation"""
    reduction: Literal["exact", "fast"] = "exact"
    """sum over workers: the same bits for any number of them, or plain floats"""
    on_nonfinite: Literal["stop", "skip"] = "stop"
    """what to do about a loss or gradient that is not finite"""


class RunSection(Declared):
    """The run itself."""

    seed: Seed = 0
    """of initialisation and of random draws in training"""
    checkpoint_every: Updates = 200
    """outer steps between checkpoints"""
    keep: Updates = 3
    """newest checkpoints to keep, beside the best"""
