"""The validated description of a run: frozen, closed, hashable, read from TOML.

A recipe holds everything that can change the bits of a run, and a few things that cannot
(``run.checkpoint_every``, ``run.keep``, ``data.storage``, ``data.store``), which stay out of its
hash. Workers, addresses, directories, names and tracking are not part of a recipe at all.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from metadist.discovery import explain, nearest
from metadist.errors import RecipeError
from metadist.overrides import Declared, typed_value
from metadist.overrides import Scalar as Scalar
from metadist.overrides import parse_override as parse_override
from metadist.recipe.files import builtin_names as builtin_names
from metadist.recipe.files import recipe_text as recipe_text
from metadist.recipe.rate_changes import Changes, parse_changes, write_changes

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
#: See :mod:`metadist.recipe.rate_changes`; always in the form that ``write_changes`` gives it.
RateChanges = Annotated[str, AfterValidator(lambda text: write_changes(parse_changes(text)))]


def too_many_rows(episodes: int, steps: int) -> str:
    """What is wrong with the size of an evaluation's table, episodes x (steps + 1); or nothing."""
    rows = episodes * (steps + 1)
    if rows <= MOST_ROWS:
        return ""
    return (
        f"at most {MOST_ROWS} results are kept of an evaluation, {episodes} episodes with "
        f"{steps} adaptation steps have {rows}; lower one of them"
    )


class _Section(Declared):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


class _OpenSection(Declared):
    """A section whose further keys are the options of the part it names, checked by that part."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False, strict=True)

    name: str

    @property
    def options(self) -> dict[str, Any]:
        """The keys beside ``name``."""
        return dict(self.__pydantic_extra__ or {})


class DataSection(_Section):
    """Which episodes the run learns from."""

    dataset: str
    split: str = ""
    ways: Ways = 5
    shots: Examples = 1
    queries: Examples = 1
    rotations: Literal["none", "per_episode", "as_classes"] = "none"
    labels: Literal["permuted", "fixed"] = "permuted"
    episodes: Updates | Literal["unlimited"] = "unlimited"
    seed: Seed = 0
    storage: Literal["live", "shards"] = "live"
    store: str = ""


class ModelSection(_OpenSection):
    """Which backbone, with its options, and how normalisation layers get their statistics."""

    norm: Literal["transductive", "support", "running", "none"] = "transductive"


class AlgorithmSection(_OpenSection):
    """Which learner, with its options."""


class InnerSection(_Section):
    """Adaptation. ``loss`` is the reduction of the support loss: MAML's published step sizes
    belong to ``sum_over_ways``, which is N times the mean cross-entropy. ``lr_changes``: other
    rates after so many outer steps, as in ``120: 0.3, 180: 0.1``."""

    lr: float = Field(0.01, gt=0)
    lr_changes: RateChanges = ""
    steps: Steps = 1
    loss: Literal["mean", "sum_over_ways"] = "mean"

    @property
    def changes(self) -> Changes:
        """``lr_changes``, read."""
        return parse_changes(self.lr_changes)


class OuterSection(_Section):
    """Meta-optimisation. ``batch`` is tasks per outer step; ``clip`` bounds each entry of the
    averaged meta-gradient (0: no bound). ``lr_changes`` as in ``inner``, of a constant schedule."""

    optimizer: Literal["adam", "sgd"] = "adam"
    lr: float = Field(1e-3, gt=0)
    lr_changes: RateChanges = ""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    final_lr: float = Field(0.0, ge=0)
    steps: Updates = 1000
    batch: Tasks = 32
    clip: float = Field(0.0, ge=0)

    @property
    def changes(self) -> Changes:
        """``lr_changes``, read."""
        return parse_changes(self.lr_changes)


class EvalSection(_Section):
    """Evaluation on fixed episodes of unseen classes.

    ``queries`` is the recipe's own protocol, ``extra_queries`` a second one beside it (0: none);
    ``steps`` are adaptation steps at test time (0: as in training); validation runs on
    ``val_episodes`` episodes after every ``every`` outer steps.
    """

    seed: Seed = 0
    episodes: Tasks = 600
    queries: Examples = 1
    extra_queries: MaybeExamples = 15
    steps: Steps = 0
    every: Updates = 500
    val_episodes: Tasks = 200


class EngineSection(_Section):
    """How gradients are computed and summed. Frozen in the run; never depends on its workers."""

    mode: Literal["loop", "vmap"] = "loop"
    chunk: Tasks = 1
    dtype: Literal["float32", "float64"] = "float32"
    reduction: Literal["exact", "fast"] = "exact"
    on_nonfinite: Literal["stop", "skip"] = "stop"


class RunSection(_Section):
    """Seed of initialisation and random keys; cadence and number of checkpoints (not hashed)."""

    seed: Seed = 0
    checkpoint_every: Updates = 200
    keep: Updates = 3


#: Keys that cannot change the bits of a run.
UNHASHED = {"run": {"checkpoint_every", "keep"}, "data": {"storage", "store"}}
#: Keys that recipes had not from the start, with what it was like without them.
LATER = (("data", "labels", "permuted"), ("inner", "lr_changes", ""), ("outer", "lr_changes", ""))


class Recipe(BaseModel):
    """A complete run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: DataSection
    model: ModelSection
    algorithm: AlgorithmSection
    inner: InnerSection = InnerSection()
    outer: OuterSection = OuterSection()
    eval: EvalSection = EvalSection()
    engine: EngineSection = EngineSection()
    run: RunSection = RunSection()
    #: By section, keys that were said of another part than the one it names now.
    _left: dict[str, frozenset[str]] = PrivateAttr(default_factory=dict)

    def left(self, section: str) -> frozenset[str]:
        """Keys of a section that were said of another part than the one it names now."""
        return self._left.get(section, frozenset())

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        if self.engine.mode == "loop" and self.engine.chunk > self.outer.batch:
            raise ValueError(
                f"engine.chunk must be at most outer.batch ({self.outer.batch}), "
                f"got {self.engine.chunk}"
            )
        if self.outer.lr_changes and self.outer.schedule != "constant":
            raise ValueError(
                f"outer.lr_changes needs outer.schedule = 'constant', got {self.outer.schedule!r}"
            )
        if self.eval.steps and self.eval.steps < self.inner.steps:
            raise ValueError(
                f"eval.steps must be 0 or at least inner.steps ({self.inner.steps}), so that the "
                f"trained number of steps is among those evaluated, got {self.eval.steps}"
            )
        for name in ("episodes", "val_episodes"):
            if too_long := too_many_rows(getattr(self.eval, name), self.eval_steps):
                raise ValueError(f"eval.{name}: {too_long}")
        return self

    @property
    def eval_steps(self) -> int:
        """Adaptation steps at evaluation."""
        return self.eval.steps or self.inner.steps

    @property
    def lineage(self) -> str:
        """The hash without the number of outer steps, which may grow."""
        from data_pipeline.storage.local import canonical_json, sha256_bytes

        return sha256_bytes(canonical_json(self.hashed(without_steps=True)))

    @property
    def protocols(self) -> tuple[int, ...]:
        """Numbers of queries to evaluate with: the recipe's own first."""
        own, extra = self.eval.queries, self.eval.extra_queries
        return (own,) if extra in (0, own) else (own, extra)

    def hashed(self, *, without_steps: bool = False) -> dict[str, Any]:
        """The fields that can change the bits of a run, as a JSON-able dictionary."""
        sections: dict[str, Any] = self.model_dump(mode="json")
        for section, keys in UNHASHED.items():
            for key in keys:
                sections[section].pop(key)
        # Left out where it is the default: recipes without the key keep their hash.
        for section, key, default in LATER:
            if sections[section][key] == default:
                sections[section].pop(key)
        if without_steps:
            sections["outer"].pop("steps")
        return sections

    @property
    def hash(self) -> str:
        """SHA-256 over everything that can change the bits."""
        # Here, so that `metadist doctor` starts where another `data_pipeline` is imported.
        from data_pipeline.storage.local import canonical_json, sha256_bytes

        return sha256_bytes(canonical_json(self.hashed()))

    def to_toml(self) -> str:
        """The recipe as TOML; reading it back gives an equal recipe."""
        lines = []
        for section, values in self.model_dump(mode="json").items():
            lines.append(f"[{section}]")
            # JSON's numbers, strings and booleans are TOML's.
            lines.extend(f"{k} = {_toml_value(v)}" for k, v in values.items())
            lines.append("")
        return "\n".join(lines)

    def with_inner_lr(self, lr: float) -> Recipe:
        """This recipe with one inner learning rate throughout."""
        inner = self.inner.model_copy(update={"lr": lr, "lr_changes": ""})
        return self.model_copy(update={"inner": inner})

    def with_options(self, model: dict[str, Any], algorithm: dict[str, Any]) -> Recipe:
        """This recipe with every option of its model and algorithm written out."""
        data = self.model_dump()
        data["model"] = {"name": self.model.name, "norm": self.model.norm, **model}
        data["algorithm"] = {"name": self.algorithm.name, **algorithm}
        return Recipe.model_validate(data)


def _toml_value(value: Scalar) -> str:
    """JSON's spelling of a value, which is TOML's but for one control character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def varying(recipes: Sequence[Recipe]) -> dict[str, list[Scalar | None]]:
    """``section.key`` -> the value in each recipe, of every hashed field in which any two differ.

    None stands where a recipe has no such key: it is an option of another learner or network.
    """
    hashed = [recipe.hashed() for recipe in recipes]
    full = [recipe.model_dump(mode="json") for recipe in recipes]
    result: dict[str, list[Scalar | None]] = {}
    for section in Recipe.model_fields:
        for key in sorted({key for sections in hashed for key in sections[section]}):
            # From the full recipe: a default may be missing among what is hashed.
            values = [sections[section].get(key) for sections in full]
            if any(_other(value, values[0]) for value in values):
                result[f"{section}.{key}"] = values
    return result


def _other(a: Scalar | None, b: Scalar | None) -> bool:
    """Whether two values differ; True and 1, and 1 and 1.0, do, as their hashes do."""
    return a != b or type(a) is not type(b)


def differences(a: Recipe, b: Recipe) -> list[str]:
    """``section.key: x -> y`` for every hashed field in which two recipes differ."""
    return [f"{key}: {x!r} -> {y!r}" for key, (x, y) in varying([a, b]).items()]


def _model(section: str) -> type[BaseModel]:
    """What describes a section."""
    model = Recipe.model_fields[section].annotation
    assert isinstance(model, type)
    assert issubclass(model, BaseModel)
    return model


def _check_keys(sections: dict[str, Any], where: str) -> None:
    for section, values in sections.items():
        if section not in Recipe.model_fields:
            raise RecipeError(
                f"{where}: unknown section [{section}]; there are "
                f"{', '.join(Recipe.model_fields)}.{nearest(section, Recipe.model_fields)}"
            )
        model = _model(section)
        if not isinstance(values, dict):
            raise RecipeError(f"{where}: [{section}] must be a table, got {values!r}")
        if model.model_config.get("extra") == "allow":
            for key, value in values.items():
                if not isinstance(value, Scalar):
                    raise RecipeError(f"{where}: {section}.{key}: a single value is needed")
            continue
        for key in values:
            if key not in model.model_fields:
                raise RecipeError(
                    f"{where}: unknown key '{section}.{key}'; [{section}] knows "
                    f"{', '.join(model.model_fields)}.{nearest(key, model.model_fields)}"
                )


def parse_recipe(
    text: str,
    where: str = "recipe",
    overrides: tuple[str, ...] = (),
    base: tuple[str, ...] = (),
) -> Recipe:
    """A recipe from TOML text, with ``section.key=value`` overrides applied.

    Args:
        base: overrides that come before the others, and belong to what those are to change.

    Raises:
        RecipeError: not TOML, an unknown key (with the nearest valid one) or a bad value.
    """
    try:
        sections = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{where}: not valid TOML: {error}") from None
    _check_keys(sections, where)
    left: dict[str, frozenset[str]] = {}
    for layer in map(_layer, (base, overrides)):
        for section, values in layer.items():
            before = sections.setdefault(section, {})
            naming = "dataset" if section == "data" else "name"
            if before.get(naming) not in (None, values.get(naming, before.get(naming))):
                left[section] = frozenset({*before, *_model(section).model_fields})
            left[section] = left.get(section, frozenset()) - values.keys()
            before |= values
    try:
        recipe = Recipe.model_validate(sections)
    except ValidationError as error:
        raise RecipeError(f"{where}: {explain(error)}") from None
    recipe._left = {section: keys for section, keys in left.items() if keys}
    return recipe


def _layer(overrides: Sequence[str]) -> dict[str, dict[str, Scalar]]:
    """The values of overrides, by section and key."""
    sections: dict[str, dict[str, Scalar]] = {}
    for override in overrides:
        section, key, value = parse_override(override)
        _check_keys({section: {key: value}}, "--set")
        sections.setdefault(section, {})[key] = typed_value(_model(section), override)
    return sections


def load_recipe(
    name_or_path: str, overrides: tuple[str, ...] = (), base: tuple[str, ...] = ()
) -> Recipe:
    """A built-in recipe by name, or one from a file, with overrides applied.

    Raises:
        RecipeError: see :func:`recipe_text` and :func:`parse_recipe`.
    """
    return parse_recipe(recipe_text(name_or_path), name_or_path, overrides, base)
