"""``--set`` as people type it: numbers in other spellings, and parts that take another's place."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pydantic
import pytest
from published import request_of
from tiers import one_in

from metadist import algorithms, backbones
from metadist.compute.learners import build, check_rate_changes
from metadist.compute.resolve import dropped, dropped_lines, resolve
from metadist.errors import RecipeError
from metadist.overrides import Declared
from metadist.recipe.files import builtin_names
from metadist.recipe.schema import Recipe, load_recipe, parse_recipe, varying
from metadist.reproduce.plan import plan
from metadist.reproduce.table import load_table
from metadist.search.plan import make_plan
from metadist.space import Choice, LogUniform, Space
from metadist.tasks import TaskShape

STROKES, SINES = "strokes-5w1s-maml", "sinusoid-10shot-maml"


def value(override: str, recipe: str = SINES) -> object:
    section, key = override.partition("=")[0].split(".")
    return getattr(resolve(load_recipe(recipe, (override,))), section).model_dump()[key]


# --- numbers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "meant"),
    [
        ("outer.steps=1e3", 1000),
        ("outer.steps=1E3", 1000),
        ("outer.steps=2.0", 2),
        ("outer.steps=+1", 1),
        ("outer.steps=1_000", 1000),
        ("outer.steps=007", 7),
        ("outer.steps=0x10", 16),
        ("data.episodes=1e6", 10**6),
        ("run.seed=09007199254740993", 9007199254740993),
        ("inner.lr=.001", 0.001),
        ("inner.lr=+.5", 0.5),
        ("inner.lr=1.", 1.0),
        ("inner.lr=1.e-3", 0.001),
        ("model.hidden=1e1", 10),
        ("model.layers=03", 3),
        ("algorithm.adapt_norm=True", True),
        ("algorithm.adapt_norm=FALSE", False),
        ("data.store=2024", "2024"),
        ("data.store=007", "007"),
        ("data.store=1e3", "1e3"),
        ("data.store=true", "true"),
    ],
)
def test_numbers_are_read_as_people_type_them(override: str, meant: object):
    found = value(override)
    assert found == meant
    assert type(found) is type(meant)


@pytest.mark.parametrize(
    "override",
    [
        "outer.steps=1.5",
        "outer.steps=1e-3",
        "outer.steps=ten",
        "outer.steps=1,000",
        'outer.steps="1e3"',
        "outer.steps=True",
        "outer.steps=1e400",
        "inner.lr=infinity",
        "inner.lr=1e-3x",
        "inner.lr=",
        "algorithm.adapt_norm=1",
    ],
)
def test_what_is_no_such_number_is_refused_as_it_was_typed(override: str):
    key, _, raw = override.partition("=")
    with pytest.raises(RecipeError) as error:
        value(override)
    assert key in str(error.value)
    assert raw.strip('"') in str(error.value) or raw in ("1e-3", "1e400")


def test_a_file_may_write_whole_numbers_so_too():
    text = '[data]\ndataset = "sinusoid"\nways = 0\n[model]\nname = "mlp"\nhidden = 2e1\n'
    text += '[algorithm]\nname = "maml"\n[outer]\nsteps = 1e3\n'
    assert resolve(parse_recipe(text)).outer.steps == 1000
    plain = text.replace("2e1", "20").replace("1e3", "1000")
    assert resolve(parse_recipe(text)).hash == resolve(parse_recipe(plain)).hash
    with pytest.raises(RecipeError, match=r"outer\.steps"):
        parse_recipe(text.replace("1e3", '"1e3"'))


# --- parts that take another's place --------------------------------------------------------------


def shape_of(recipe: Recipe) -> TaskShape:
    if recipe.data.ways == 0:
        return TaskShape((1,), 1, latent=2)
    inputs = (3, 84, 84) if "mini" in recipe.data.dataset else (1, 28, 28)
    told = 36 * recipe.data.attributes
    return TaskShape(inputs, recipe.data.ways, recipe.data.ways, classes=100, attributes=told)


@pytest.mark.parametrize("name", one_in(4, builtin_names()))
def test_any_part_can_be_named_where_its_data_are(name: str):
    targets = shape_of(load_recipe(name)).targets
    # A head of so many outputs is for learners that need no more.
    any_head = ("model.head_outputs=0",) * ("head_outputs" in load_recipe(name).model.options)
    for chosen in algorithms.names():
        if targets not in algorithms.targets(chosen):
            continue
        for more in (any_head, ("model.name=mlp",)):
            recipe = resolve(load_recipe(name, (f"algorithm.name={chosen}", *more)))
            build(recipe, shape_of(recipe))
            check_rate_changes(recipe, shape_of(recipe))


def test_a_named_part_brings_its_defaults_and_says_what_it_drops():
    for words in itertools.permutations(["model.name=mlp", "model.hidden=7", "outer.batch=8"]):
        stated = load_recipe(STROKES, words)
        recipe = resolve(stated)
        expected = backbones.options("mlp", {"hidden": 7}).model_dump()
        assert recipe.model.options == expected
        assert recipe.model.norm == "none"  # it has nothing to normalise
        (line,) = dropped_lines(stated)
        for key in ("filters", "downsample", "head", "head_init", "affine", "norm"):
            assert f"model.{key}" in line
        assert "'mlp'" in line
        assert "hidden" not in line


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        (("model.filters=8", "model.name=mlp"), "model.filters"),
        (("model.name=mlp", "model.filters=8"), "model.filters"),
        (("algorithm.name=maml", "algorithm.variant=mc1"), "algorithm.variant"),
        (("algorithm.name=taml", "algorithm.variant=mc1"), "algorithm.variant"),
    ],
)
def test_what_is_said_of_the_new_part_must_be_its_own(settings: tuple[str, ...], key: str):
    with pytest.raises(RecipeError, match=key):
        resolve(load_recipe("omniglot-5w1s-meta_curvature" if "alg" in key else STROKES, settings))


def test_what_the_new_part_takes_too_stays_as_it_was():
    stated = load_recipe("omniglot-5w1s-maml", ("algorithm.adapt_norm=true",))
    text = resolve(stated).to_toml()
    kept = parse_recipe(text, "r", ("algorithm.name=meta_sgd",))
    assert resolve(kept).algorithm.options["adapt_norm"] is True
    assert dropped(kept) == {}
    # The same word may mean something else.
    other = parse_recipe(resolve(load_recipe("omniglot-5w1s-meta_curvature")).to_toml(), "r")
    assert other.algorithm.options["variant"] == "mc2"
    taml = parse_recipe(other.to_toml(), "r", ("algorithm.name=taml",))
    assert resolve(taml).algorithm.options == algorithms.options("taml", {}).model_dump()
    assert "algorithm.variant" in dropped(taml)["algorithm"]


def test_the_same_name_again_and_a_slip_in_a_file_change_nothing():
    assert resolve(load_recipe(STROKES, ("model.name=conv4",))) == resolve(load_recipe(STROKES))
    with pytest.raises(RecipeError, match=r"model\.hidden"):
        resolve(load_recipe(STROKES, ("model.hidden=3",)))


def test_another_dataset_has_splits_of_its_own():
    stated = load_recipe("omniglot-5w1s-maml", ("data.dataset=strokes",))
    assert resolve(stated).data.split == ""
    assert dropped_lines(stated) == ["data.split: not of 'strokes', dropped from the recipe"]
    said = load_recipe("omniglot-5w1s-maml", ("data.dataset=strokes", "data.split=lake"))
    assert resolve(said).data.split == "lake"  # and refused where the data are opened


def test_trials_may_name_parts():
    space = Space(
        about="parts",
        base=STROKES,
        search={
            "model.name": Choice("conv4", "mlp"),
            "algorithm.name": Choice("meta_curvature", "maml"),
            "inner.lr": LogUniform(0.1, 1.0),
        },
        fixed={"algorithm.name": "mamlpp", "algorithm.multi_step": False},
        metric="val/accuracy",
        mode="max",
        steps=2,
        every=1,
    )
    held = replace(space, search={k: v for k, v in space.search.items() if "alg" not in k})
    searched = make_plan("parts", held, overrides=("algorithm.name=taml",))
    recipe = searched.recipe({"model.name": "mlp"})
    assert (recipe.model.norm, recipe.algorithm.name) == ("none", "taml")
    said = " ".join(searched.dropped())
    assert "algorithm.multi_step" in said
    assert "model.filters" in said
    assert searched.recipe({"model.name": "conv4"}).model.options["filters"] == 64


def test_rows_of_a_table_may_name_parts(tmp_path: Path):
    table = load_table("sinusoid-shots")
    held = ["algorithm.name=taml", "algorithm.weight=0.3"]
    base = table.base.model_copy(update={"recipe": SINES, "set": held})
    runs = {key: spec.model_copy(update={"recipe": None}) for key, spec in table.runs.items()}
    said: list[str] = []
    planned = plan(
        request_of(table.model_copy(update={"base": base, "runs": runs}), tmp_path), said.append
    )
    assert any("algorithm.weight" in line for line in said)
    for one in planned:
        assert one.recipe is not None, one.problem
        # A run is started with a flat list of settings.
        assert resolve(load_recipe(SINES, one.overrides)).hash == one.recipe.hash


def test_an_option_may_be_a_list() -> None:
    class Sized(Declared):
        sizes: tuple[int, ...] = ()
        rates: list[float] = pydantic.Field(default=[])

    found = Sized.model_validate({"sizes": [1e3, 2], "rates": [0.1, 1]})
    assert (found.sizes, found.rates) == ((1000, 2), [0.1, 1.0])
    with pytest.raises(ValueError, match="valid integer"):
        Sized.model_validate({"sizes": [1.5]})
    recipe = load_recipe("sinusoid-10shot-maml", ("algorithm.sizes=[1, 2]",))
    assert recipe.algorithm.options == {"sizes": [1, 2]}
    assert varying([recipe, load_recipe("sinusoid-10shot-maml")]) == {
        "algorithm.sizes": [[1, 2], None]
    }
    assert parse_recipe(recipe.to_toml()) == recipe
