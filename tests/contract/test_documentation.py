"""The example in docs/add-an-algorithm.md is an algorithm like any other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import metadist
from metadist import algorithms, plugins
from metadist.errors import NumericsError, RecipeError
from metadist.inner.inner_loop import InnerLoop
from tests.contract.cases import ALGORITHMS, Case, default_cases
from tests.contract.checks import check_differences, check_everything, check_same
from tests.contract.setting import make
from tests.contract.test_mutations import claiming
from tests.contract.training import train, trainer

TEXT = (Path(__file__).parents[2] / "docs" / "add-an-algorithm.md").read_text(encoding="utf-8")


def block(heading: str) -> str:
    """The first program below a heading."""
    found = re.search(rf"^## {heading}$.*?^```python$(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    assert found
    return found[1]


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of the example, which recipes may use inside the test."""
    named = re.search(r"## A complete example\n.*?`metadist/algorithms/(\w+)\.py`", TEXT, re.DOTALL)
    assert named
    assert named[1] not in ALGORITHMS
    path = tmp_path_factory.mktemp("example") / f"{named[1]}.py"
    path.write_text(block("A complete example") + '\nPART = "algorithm"\n', encoding="utf-8")
    with plugins.use(path):
        yield named[1]


def test_the_example_keeps_the_contract(example: str):
    cases = default_cases(example)
    # Both small networks, one of convolutions, and its option.
    chosen = [*cases[:3], cases[-1]]
    assert len({case.model for case in chosen}) == 4
    for case in chosen:
        check_everything(make(case))


def test_the_example_learns_something_of_its_own(example: str):
    case = Case(example, "mlp-tanh", "none", 2, outer={"batch": 4, "lr": 0.02})
    worker = trainer(case)
    before = worker.learner.learned_quantities(worker.params)
    after = train(worker, case, 5).learner.learned_quantities(worker.params)
    assert set(before) == set(after)
    assert before != after


def test_the_example_is_named_in_messages_as_the_page_says(example: str):
    with pytest.raises(RecipeError) as unknown:
        algorithms.options(example[:-1], {})
    assert f"Error: {str(unknown.value).replace(', '.join(algorithms.names()), '…')}" in TEXT
    with pytest.raises(RecipeError) as option:
        algorithms.options(example, {"lr": 0.1})
    assert f"Error: {option.value}" in TEXT


def test_the_mistake_that_the_page_makes_is_noticed(example: str):
    setting = make(Case(example, "mlp-tanh", "none", 3))
    check_differences(setting)
    assert isinstance(setting.algorithm, InnerLoop)
    first_order = replace(setting, algorithm=replace(setting.algorithm, second_order=False))
    with pytest.raises(AssertionError):
        check_differences(claiming(first_order, "exact"))


def test_the_example_from_outside_is_what_it_says(tmp_path: Path):
    path = tmp_path / "sign_maml.py"
    path.write_text(block("Outside this repository"), encoding="utf-8")
    with plugins.use(path):
        for model in ("mlp-tanh", "conv4-stride"):
            setting = make(Case("sign_maml", model, "none", 2))
            assert setting.algorithm.estimator == "first-order"
            check_same(setting.vmap(2), setting.looped)
            # A sign has no slope: its constants are the derivative all the same.
            check_differences(setting)


def test_the_network_around_a_module_trains_to_the_same_bits(tmp_path: Path):
    plugin = tmp_path / "tanh_net.py"
    settings = ["outer.steps=2", "outer.batch=2", "engine.chunk=2", "eval.every=1"]
    settings += ["eval.episodes=2", "eval.val_episodes=2", "eval.extra_queries=0"]

    def train(source: str, mode: str, name: str) -> str:
        plugin.write_text(source, encoding="utf-8")
        recipe = tmp_path / "recipe.toml"
        recipe.write_text(
            '[data]\ndataset = "sinusoid"\nways = 0\n'
            '[model]\nname = "tanh_net"\n[algorithm]\nname = "maml"\n'
        )
        result = metadist.train(
            recipe,
            overrides=[*settings, f"engine.mode={mode}", 'model.norm="none"'],
            plugins=[plugin],
            runs_dir=tmp_path / "runs",
            data_dir=tmp_path / "data",
            offline=True,
            name=name,
        )
        return str(result["params_sha256"])

    text = block("Randomness")
    assert train(text, "loop", "a") == train(text, "loop", "b")
    assert train(text, "vmap", "c")
    with pytest.raises(NumericsError) as refused:
        train(text.replace("key.module(lambda:", "(lambda made: made)("), "loop", "d")
    assert f"Error: {refused.value}" in " ".join(TEXT.split())
