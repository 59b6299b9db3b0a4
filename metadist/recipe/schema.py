"""The validated description of a run: frozen, closed, hashable, read from TOML.

A recipe holds everything that can change the bits of a run, and a few things that cannot
(``run.checkpoint_every``, ``run.keep``, ``data.storage``, ``data.store``), which stay out of its
hash. Workers, addresses, directories, names and tracking are not part of a recipe at all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationError, model_validator

from metadist.discovery import explain, nearest
from metadist.errors import RecipeError
from metadist.overrides import VALUE, Value, is_value, parse_override, typed_value
from metadist.recipe.files import parse_toml, recipe_text
from metadist.recipe.sections import (
    AlgorithmSection,
    DataSection,
    EngineSection,
    EvalSection,
    InnerSection,
    ModelSection,
    ObjectiveSection,
    OuterSection,
    RunSection,
    too_many_rows,
)

#: Keys that cannot change the bits of a run.
UNHASHED = {"run": {"checkpoint_every", "keep"}, "data": {"storage", "store"}}
#: Keys that recipes had not from the start, with what it was like without them; of open sections
#: options that parts have got since.
LATER = (
    ("data", "labels", "permuted"),
    ("data", "unlabeled", 0),
    ("data", "distractors", 0),
    ("data", "within", "all"),
    ("data", "drawer", "any"),
    ("data", "partition", ""),
    ("data", "attributes", False),
    ("model", "halvings", 4),
    ("model", "head_outputs", 0),
    ("model", "drop_rate", 0.0),
    ("model", "drop_size", 5),
    ("model", "drop_over", 20_000),
    ("algorithm", "fine_tune", False),
    ("algorithm", "prototypes", "support"),
    ("objective", "name", ""),
    ("inner", "lr_changes", ""),
    ("outer", "lr_changes", ""),
    ("eval", "ways", 0),
    ("eval", "shots", 0),
    ("eval", "within", "as_trained"),
    ("eval", "drawer", "as_trained"),
    ("eval", "chunk", 1),
    ("eval", "verification", False),
    ("engine", "kernels", "torch"),
)


class Recipe(BaseModel):
    """A complete run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: DataSection
    model: ModelSection
    algorithm: AlgorithmSection
    objective: ObjectiveSection = ObjectiveSection()
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
    def _chunked(self) -> Recipe:
        if not self.engine.chunk:
            several = self.engine.kernels == "fused"
            chunk = min(max(self.outer.batch // 8, 1), 8) if several else 1
            # A frozen model has no other way to complete itself.
            self.__dict__["engine"] = self.engine.model_copy(update={"chunk": chunk})
        return self

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
    def eval_ways(self) -> int:
        """Classes of an episode at evaluation; 0 for functions."""
        return self.eval.ways or self.data.ways

    @property
    def eval_shots(self) -> int:
        """Support examples per class, or support points, at evaluation."""
        return self.eval.shots or self.data.shots

    @property
    def eval_within(self) -> Literal["all", "group"]:
        """What the classes of an episode are of at evaluation."""
        own = self.eval.within
        return self.data.within if own == "as_trained" else own

    @property
    def eval_drawer(self) -> Literal["any", "same"]:
        """By whom its images are."""
        own = self.eval.drawer
        return self.data.drawer if own == "as_trained" else own

    @property
    def lineage(self) -> str:
        """The hash without the number of outer steps, which may grow."""
        return _digest(self.hashed(without_steps=True))

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
            if sections[section].get(key) == default:
                sections[section].pop(key)
        sections = {section: values for section, values in sections.items() if values}
        if without_steps:
            sections["outer"].pop("steps")
        return sections

    @property
    def hash(self) -> str:
        """SHA-256 over everything that can change the bits."""
        return _digest(self.hashed())

    def to_toml(self) -> str:
        """The recipe as TOML; reading it back gives an equal recipe."""
        lines = []
        for section, values in self.model_dump().items():
            lines.append(f"[{section}]")
            lines.extend(f"{k} = {json.dumps(v, ensure_ascii=False)}" for k, v in values.items())
            lines.append("")
        # JSON's numbers, strings, booleans and lists are TOML's but for one control character.
        return "\n".join(lines).replace("\x7f", "\\u007f")

    def with_inner_lr(self, lr: float) -> Recipe:
        """This recipe with one inner learning rate throughout."""
        inner = self.inner.model_copy(update={"lr": lr, "lr_changes": ()})
        return self.model_copy(update={"inner": inner})

    def with_options(self, options: Mapping[str, dict[str, Any]]) -> Recipe:
        """This recipe with every option of its parts written out, by section."""
        data = self.model_dump()
        for section, values in options.items():
            declared = type(getattr(self, section)).model_fields
            data[section] = {key: data[section][key] for key in declared} | values
        return Recipe.model_validate(data)


def _digest(sections: dict[str, Any]) -> str:
    # Here, so that `metadist doctor` starts where another `data_pipeline` is imported.
    from data_pipeline.storage.local import canonical_json, sha256_bytes

    return sha256_bytes(canonical_json(sections))


def varying(recipes: Sequence[Recipe]) -> dict[str, list[Value | None]]:
    """``section.key`` -> the value in each recipe, of every hashed field in which any two differ.

    None stands where a recipe has no such key: it is an option of another learner or network.
    """
    hashed = [recipe.hashed() for recipe in recipes]
    full = [recipe.model_dump(mode="json") for recipe in recipes]
    result: dict[str, list[Value | None]] = {}
    for section in Recipe.model_fields:
        for key in sorted({key for sections in hashed for key in sections.get(section, ())}):
            # From the full recipe: a default may be missing among what is hashed.
            values = [sections[section].get(key) for sections in full]
            # True and 1, and 1 and 1.0, differ, as their hashes do.
            if len({json.dumps(value) for value in values}) > 1:
                result[f"{section}.{key}"] = values
    return result


def differences(a: Recipe, b: Recipe) -> list[str]:
    """``section.key: x -> y`` for every hashed field in which two recipes differ."""
    return [f"{key}: {x!r} -> {y!r}" for key, (x, y) in varying([a, b]).items()]


def _model(section: str) -> type[BaseModel]:
    """What describes a section."""
    return cast(type[BaseModel], Recipe.model_fields[section].annotation)


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
                if not is_value(value):
                    raise RecipeError(f"{where}: {section}.{key}: {VALUE} is needed")
            continue
        for key in values:
            if key not in model.model_fields:
                raise RecipeError(
                    f"{where}: unknown key '{section}.{key}'; [{section}] knows "
                    f"{', '.join(model.model_fields)}.{nearest(key, model.model_fields)}"
                )


def parse_recipe(
    text: str, where: str = "recipe", overrides: tuple[str, ...] = (), base: tuple[str, ...] = ()
) -> Recipe:
    """A recipe from TOML text, with ``section.key=value`` overrides applied.

    Args:
        base: overrides that come before the others, and belong to what those are to change.

    Raises:
        RecipeError: not TOML, an unknown key (with the nearest valid one) or a bad value.
    """
    sections = parse_toml(text, where, RecipeError)
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
    return _validated(sections, where, {section: keys for section, keys in left.items() if keys})


def checked(recipe: Recipe) -> Recipe:
    """A recipe that was put together in Python, where ``model_copy`` looks at no value.

    Raises:
        RecipeError: an unknown key or a bad value.
    """
    sections = {name: dict(of) if isinstance(of, BaseModel) else of for name, of in recipe}
    _check_keys(sections, "recipe")
    return _validated(sections, "recipe", recipe._left)


def _validated(sections: dict[str, Any], where: str, left: dict[str, frozenset[str]]) -> Recipe:
    try:
        recipe = Recipe.model_validate(sections)
    except ValidationError as error:
        raise RecipeError(f"{where}: {explain(error)}") from None
    recipe._left = left
    return recipe


def _layer(overrides: Sequence[str]) -> dict[str, dict[str, Value]]:
    """The values of overrides, by section and key."""
    sections: dict[str, dict[str, Value]] = {}
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
