"""What a learner or an objective from outside gets wrong is said in a line, not in a KeyError."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from plugin_parts import FOLDER, LEARNED, Learned, plugins, prepared

from metadist.errors import MetadistError, NumericsError, PluginError, RecipeError, UndeclaredNeed

PROTOTYPES, SETS, REFINED = LEARNED
RETURNS = "return [Fitted(params, support, prototypes, passed.statistics)]"
INIT = "    def init(self, key: Key) -> Params:\n"
SUPPORT = "support = task.support\n"
LOSS = """    def loss(self, params, task, ctx):
        from metadist.learner import Loss

        found = super().loss(params, task, ctx)
        return Loss(found.value, {metrics}, found.statistics)

"""
GRADIENT = """    def gradient(self, params, task, ctx):
        gradients, found = super().gradient(params, task, ctx)
        return {n: g for n, g in gradients.items() if n != "conv1.weight"}, found

"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("mistakes"))


def tried(
    root: Path, learned: Learned, part: str, name: str, old: str, new: str, *sets: str
) -> MetadistError:
    """What training says to a part with something replaced, under another name."""
    text = (FOLDER / f"{part}.py").read_text(encoding="utf-8")
    assert old in text
    path = root / f"{name}.py"
    text = text.replace(old, new).replace(f'name = "{part}"', f'name = "{name}"')
    path.write_text(text, encoding="utf-8")
    others = plugins(*(p for p in learned.parts if p != part))
    with pytest.raises(MetadistError) as caught:
        learned.train(root, name, *sets, plugins=[*others, path])
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("mode", ["loop", "vmap"])
@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("return [fitted.statistics]", "return []", "what statistics() says; lacking: norm1.mean"),
        (RETURNS, RETURNS.replace("[", "").replace("]", ""), "adapt() has to return a list"),
        (RETURNS, "return []", "or one element if it takes no steps; got 0"),
        ("return Prediction(-", "return (-", "predict() has to return a Prediction, got Tensor"),
        (
            INIT,
            LOSS.replace("{metrics}", '{"loss": found.value.detach()}') + INIT,
            "what metric_names says; lacking: accuracy; beside it: none",
        ),
        (
            INIT,
            LOSS.replace("{metrics}", '{**found.metrics, "own": found.value.detach()}') + INIT,
            "what metric_names says; lacking: none; beside it: own",
        ),
        (INIT, GRADIENT + INIT, "a gradient of each parameter; lacking: conv1.weight"),
    ],
    ids=["statistics", "list", "empty", "prediction", "metric", "further", "gradient"],
)
def test_what_a_learner_returns(root: Path, mode: str, old: str, new: str, words: str) -> None:
    name = f"wrong_{abs(hash((old, new))) % 10**8}_{mode}"
    sets = [f"algorithm.name={name}", "data.ways=4", "eval.ways=0"]
    sets += [f"engine.mode={mode}", "engine.chunk=2"]
    error = tried(root, PROTOTYPES, "prototypes", name, old, new, *sets)
    assert isinstance(error, PluginError)
    assert words in str(error)


@pytest.mark.parametrize(
    ("name", "mode", "old", "new", "kind", "words"),
    [
        ("curious", "loop", SUPPORT, f"{SUPPORT}        task.query.x\n", UndeclaredNeed, "query_x"),
        (
            "nosy",
            "loop",
            SUPPORT,
            f"{SUPPORT}        task.unlabeled\n",
            UndeclaredNeed,
            "unlabeled",
        ),
        (
            "branching",
            "vmap",
            SUPPORT,
            f"{SUPPORT}        assert support.y.sum() > 0\n",
            RecipeError,
            "data-dependent control flow.*set engine.mode = 'loop'",
        ),
        (
            "unsteady",
            "loop",
            "return self.encoder.init(key)",
            "import torch\n        return {n: torch.randn_like(p) for n, p in "
            "self.encoder.init(key).items()}",
            NumericsError,
            "draws random numbers that do not come from its key",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isidentifier() else "",
)
def test_what_a_learner_does(
    root: Path, name: str, mode: str, old: str, new: str, kind: type[Exception], words: str
) -> None:
    sets = [f"algorithm.name={name}", "data.ways=4", "eval.ways=0", f"engine.mode={mode}"]
    error = tried(root, PROTOTYPES, "prototypes", name, old, new, *sets, "engine.chunk=5")
    assert isinstance(error, kind)
    assert re.search(words, str(error))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"mae": error', '"mea": error', "has to return nll, mae, which are its metrics"),
        ("covered.sum()", "covered.double().sum()", "'covered': (torch.int64, ())"),
        ('"covered": covered.sum(), ', "", "as count_shapes says"),
        ('name = "laplace"', 'name = "gauss"', "its name must be 'spoiled"),
    ],
    ids=["score", "type", "counts", "name"],
)
def test_what_an_objective_returns(root: Path, old: str, new: str, words: str) -> None:
    name = f"spoiled_{abs(hash((old, new))) % 10**8}"
    learned = Learned(SETS.name, SETS.recipe, (*SETS.parts, "laplace"))
    setting = f"objective.name={json.dumps(name)}"
    error = tried(root, learned, "laplace", name, old, new, setting)
    assert isinstance(error, PluginError)
    assert words in str(error)
