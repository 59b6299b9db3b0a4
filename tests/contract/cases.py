"""Which algorithms, with which options, are held to the contract on which small networks.

Algorithms are found by their modules. The default tier has every algorithm with its defaults on
networks of each kind and in each normalisation mode, and every value of every option once. The
slow tier has the defaults on all networks in all modes, every option on all networks in a mode of
its own, and all combinations of the options that can only be enumerated. Its cases are listed when
they are run: that takes longer than the default tier may take to begin.
"""

from __future__ import annotations

import functools
import itertools
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Union, get_args, get_origin

import pytest

from metadist import algorithms
from metadist.compute.learners import build
from metadist.context import NormMode
from metadist.errors import RecipeError
from metadist.learner import Learner
from metadist.recipe.schema import Recipe
from metadist.tasks import Targets, TaskShape
from tests.numerics.reference import Net, Network, Reference, cross_entropy, squared_error

TASKS, WAYS, SHOTS, QUERIES = 3, 3, 2, 2
#: Different training classes of the synthetic classification.
CLASSES = 6
#: Numbers that are told of each class.
ATTRIBUTES = 3
#: Outer steps that a recipe plans: first, third and last are far apart in any schedule.
TOTAL_STEPS = 6000
ALGORITHMS = algorithms.names()
NORMS: tuple[NormMode, ...] = get_args(NormMode)

#: Names and values of some of an algorithm's options.
Options = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Model:
    """A small network, and the same network in the reference."""

    name: str
    options: Mapping[str, Any]
    net: Network
    targets: Targets
    inputs: tuple[int, ...]
    outputs: int
    lr: float = 0.05
    norms: tuple[NormMode, ...] = NORMS
    most_steps: int = 3

    @property
    def shape(self) -> TaskShape:
        """What an algorithm knows of its tasks: linear maps, or classes of noisy prototypes."""
        if self.targets == "labels":
            sizes = {"ways": self.outputs, "classes": CLASSES, "attributes": ATTRIBUTES}
            return TaskShape(self.inputs, self.outputs, **sizes)
        return TaskShape(self.inputs, self.outputs, latent=self.inputs[0] * self.outputs)


IMAGE = (1, 16, 16)
CONV = {"filters": 4, "affine": "scale_shift"}


def _conv(more: Mapping[str, Any], net: Net, norms: tuple[NormMode, ...] = NORMS) -> Model:
    return Model("conv4", {**CONV, **more}, net, "labels", IMAGE, WAYS, norms=norms)


MODELS = {
    "mlp-tanh": Model(
        "mlp",
        {"hidden": 6, "activation": "tanh"},
        Net("mlp", tanh=True),
        "values",
        (2,),
        1,
        norms=("none",),
    ),
    "mlp-relu": Model("mlp", {"hidden": 8}, Net("mlp"), "labels", (5,), WAYS, norms=("none",)),
    "conv4-stride": _conv({}, Net("conv4")),
    "conv4-pool": _conv(
        {"downsample": "pool", "head": "flatten"}, Net("conv4", pool=True, flatten=True)
    ),
    "conv4-shift": _conv({"affine": "shift"}, Net("conv4"), ("transductive",)),
    "conv4-plain": _conv({"affine": "none"}, Net("conv4"), ("transductive",)),
    "resnet12": replace(
        _conv({}, Net("resnet12", epsilon=1e-5), ("running",)),
        name="resnet12",
        options={"filters": 2},
        # Normalising ever smaller maps sixteen times over, it is steep: differences show it.
        most_steps=1,
    ),
}
MLPS = ("mlp-tanh", "mlp-relu")
PUBLISHED = {
    "omniglot": Model(
        "conv4", {"affine": "shift"}, Net("conv4"), "labels", (1, 28, 28), WAYS, lr=0.1
    ),
    "miniimagenet": Model(
        "conv4",
        {"filters": 32, "downsample": "pool", "head": "flatten", "affine": "shift"},
        Net("conv4", pool=True, flatten=True),
        "labels",
        (3, 84, 84),
        WAYS,
        lr=0.01,
    ),
}


#: Of learners whose defaults are large. With as many rows as are written to no two are used alike.
SIZES = {"mann": {"units": 20, "memory_rows": 64, "memory_width": 10}}


@dataclass(frozen=True)
class Case:
    """An algorithm on a model."""

    algorithm: str
    model: str
    norm: NormMode
    steps: int = 1
    options: Options = ()
    outer_step: int = 0
    dtype: Literal["float32", "float64"] = "float64"
    outer: Mapping[str, Any] = field(default_factory=dict, hash=False)
    engine: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        options = [f"{k}={v}" for k, v in self.options]
        at = [f"step{self.outer_step}"] if self.outer_step else []
        return "-".join([self.algorithm, self.model, self.norm, str(self.steps), *options, *at])

    @property
    def told(self) -> dict[str, Any]:
        """The options that are no defaults."""
        return {**SIZES.get(self.algorithm, {}), **dict(self.options)}

    @property
    def network(self) -> Model:
        """The model of this name."""
        return {**MODELS, **PUBLISHED}[self.model]

    @property
    def recipe(self) -> Recipe:
        """The case as a recipe."""
        model = self.network
        loss = "sum_over_ways" if model.targets == "labels" else "mean"
        return Recipe.model_validate(
            {
                "data": {"dataset": "none", "ways": WAYS, "shots": SHOTS, "queries": QUERIES},
                "model": {"name": model.name, "norm": self.norm, **model.options},
                "algorithm": {"name": self.algorithm, **self.told},
                "inner": {"lr": model.lr, "steps": self.steps, "loss": loss},
                "outer": {"steps": TOTAL_STEPS, **self.outer},
                "engine": {"dtype": self.dtype, **self.engine},
            }
        )

    @property
    def reference(self) -> Reference:
        """What definitions start from."""
        model = self.network
        classification = model.targets == "labels"
        options = algorithms.options(self.algorithm, self.told).model_dump()

        def adapted(name: str) -> bool:
            if name.startswith("rule.") or name.endswith(".transform"):
                return False
            return options.get("adapt_norm", False) or "norm" not in name

        return Reference(
            net=model.net,
            loss=cross_entropy if classification else squared_error,
            lr=model.lr,
            steps=self.steps,
            scale=WAYS if classification else 1.0,
            adapted=adapted,
            norm=self.norm,
            options=options,
            step=self.outer_step,
            total_steps=TOTAL_STEPS,
        )


def built(case: Case) -> Learner:
    """The algorithm of a case."""
    return build(case.recipe, case.network.shape)


@functools.cache
def works_on(algorithm: str, model: str, options: Options = ()) -> bool:
    """Whether an algorithm takes the tasks and the network."""
    case = Case(algorithm, model, "none", options=options)
    if case.network.targets not in algorithms.targets(algorithm):
        return False
    try:
        built(case)
    except RecipeError:
        return False
    return True


def models_of(algorithm: str, options: Options = ()) -> list[str]:
    """The small networks that an algorithm takes."""
    return [model for model in MODELS if works_on(algorithm, model, options)]


def first_model(algorithm: str, options: Options = ()) -> str:
    """The first of them, without a look at the others."""
    found = next((model for model in MODELS if works_on(algorithm, model, options)), None)
    assert found, f"no network takes {algorithm} with {options}"
    return found


def anywhere(algorithm: str) -> Learner:
    """The algorithm on some network that it takes."""
    return built(Case(algorithm, first_model(algorithm), "none"))


# --- options --------------------------------------------------------------------------------------


def _values(annotation: Any, default: Any) -> list[Any] | None:
    """All values that an option may have beside its default; None if they cannot be listed."""
    if annotation is bool:
        return [not default]
    if get_origin(annotation) is Literal:
        return [value for value in get_args(annotation) if value != default]
    if get_origin(annotation) in (Union, types.UnionType):
        listed = [_values(one, default) for one in get_args(annotation)]
        return [v for some in listed for v in some or []] or None
    return None


def _others(algorithm: str, name: str, default: Any, also: Options = ()) -> Iterator[Any]:
    """Numbers beside an option's default that it takes with others, the nearest first."""
    if isinstance(default, bool) or not isinstance(default, int | float):
        return
    if isinstance(default, int):
        numbers: list[Any] = [default + 1, 2 * default, default - 1, 1, 2, 5]
    else:
        numbers = [default / 2, 2 * default, 0.5, 0.1, 1.0, 2.0]
    for number in numbers:
        if number == default:
            continue
        try:
            algorithms.options(algorithm, {name: number, **dict(also)})
        except RecipeError:
            continue
        yield number


@functools.cache
def enumerated(algorithm: str) -> dict[str, list[Any]]:
    """The other values of each option whose values can be listed."""
    defaults = algorithms.options(algorithm, {})
    listed = {
        name: _values(option.annotation, getattr(defaults, name))
        for name, option in type(defaults).model_fields.items()
    }
    return {name: values for name, values in listed.items() if values}


@functools.cache
def switched(algorithm: str) -> list[Options]:
    """Every listed value of every option once, and another number for each number.

    A number that is refused alone comes with the first value of another option that it goes with.
    """
    defaults = algorithms.options(algorithm, {})
    listed = enumerated(algorithm)
    alone: Options = ()
    with_one: list[Options] = [((n, v),) for n, values in listed.items() for v in values]
    sets: list[Options] = []
    for name in type(defaults).model_fields:
        if name in listed:
            sets += [((name, value),) for value in listed[name]]
            continue
        numbers = (
            (*also, (name, number))
            for also in (alone, *with_one)
            for number in _others(algorithm, name, getattr(defaults, name), also)
        )
        sets += itertools.islice(numbers, 1)
    return sets


def combined(algorithm: str, most: int = 256) -> list[Options]:
    """All combinations of two or more switched options; of two alone where these are too many."""
    listed = enumerated(algorithm)
    choices = [[None, *((name, value) for value in values)] for name, values in listed.items()]
    every = [tuple(s for s in some if s is not None) for some in itertools.product(*choices)]
    several = [some for some in every if len(some) > 1]
    return several if len(several) <= most else [some for some in several if len(some) == 2]


# --- the tiers ------------------------------------------------------------------------------------


def defaults_of(algorithm: str) -> list[Case]:
    """The defaults on a few networks."""
    wanted = [
        Case(algorithm, "mlp-tanh", "none", 3),
        Case(algorithm, "mlp-relu", "none", 1, outer_step=TOTAL_STEPS - 1),
        Case(algorithm, "conv4-stride", "transductive", 2),
        Case(algorithm, "conv4-pool", "running", 1, outer_step=TOTAL_STEPS // 3),
    ]
    return [case for case in wanted if works_on(algorithm, case.model)]


def options_of(algorithm: str) -> list[Case]:
    """Each option on a network that has layers of all sorts, else on a small one."""
    cases = []
    for number, options in enumerate(switched(algorithm)):
        small = MLPS if number % 2 else MLPS[::-1]
        model = next(m for m in ("conv4-shift", *small) if works_on(algorithm, m, options))
        cases.append(Case(algorithm, model, MODELS[model].norms[0], 2, options, TOTAL_STEPS // 3))
    return cases


def all_cases(algorithm: str, models: Iterable[str] = MODELS) -> list[Case]:
    """The defaults on everything, each option on every network, combinations on a small one."""
    cases = [
        Case(algorithm, model, norm, min(steps, MODELS[model].most_steps))
        for model in models
        for norm in MODELS[model].norms
        for steps in ((1, 3) if model in MLPS else (3,))
    ]
    for number, options in enumerate(switched(algorithm)):
        for model in models:
            norms = MODELS[model].norms
            # Of two networks with the same modes each option sees two.
            norm = norms[(number + list(MODELS).index(model)) % len(norms)]
            cases.append(Case(algorithm, model, norm, min(2, MODELS[model].most_steps), options))
    for number, options in enumerate(combined(algorithm)):
        model, step = MLPS[number % 2], (1, TOTAL_STEPS - 1)[number // 2 % 2]
        if not works_on(algorithm, model, options):
            model = MLPS[1 - number % 2]
        if model in models:
            cases.append(Case(algorithm, model, "none", 2, options, step))
    known = {*defaults_of(algorithm), *options_of(algorithm)}
    cases = [case for case in dict.fromkeys(cases) if case not in known]
    return [case for case in cases if works_on(algorithm, case.model, case.options)]


#: Those that meta-learn.
LEARNING = [name for name in ALGORITHMS if anywhere(name).estimator != "none"]


def each_case(cases: Iterable[Any]) -> pytest.MarkDecorator:
    """One test for each case."""
    return pytest.mark.parametrize("case", list(cases), ids=str)


each_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)


def each_mode(algorithms: Sequence[str], norms: Sequence[NormMode] = NORMS) -> pytest.MarkDecorator:
    """One test for each algorithm in each mode; by default each sees ``none`` and, in turn, one."""
    others = [norm for norm in norms if norm != "none"]
    return pytest.mark.parametrize(
        ("algorithm", "norm"),
        [
            pytest.param(
                algorithm,
                norm,
                marks=[] if norm in ("none", others[turn % len(others)]) else pytest.mark.slow,
            )
            for turn, algorithm in enumerate(algorithms)
            for norm in norms
        ],
    )
