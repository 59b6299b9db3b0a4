"""The examples in docs/add-an-algorithm.md and add-an-objective.md are parts like any other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pages import files
from plugin_parts import FOLDER, LEARNED, plugins

import metadist
from metadist import algorithms
from metadist.errors import MetadistError, RecipeError
from metadist.inner.inner_loop import InnerLoop
from metadist.objectives._metrics import RESERVED
from metadist.plugins import use
from tests.contract.cases import ALGORITHMS, Case, defaults_of, options_of
from tests.contract.checks import check_differences, check_everything
from tests.contract.setting import make
from tests.contract.test_mutations import claiming
from tests.contract.training import train, trainer

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("add-an-algorithm", "add-an-objective")
EXAMPLE = "heavy_ball"


def text_of(page: str) -> str:
    return (DOCS / f"{page}.md").read_text(encoding="utf-8")


def flat(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture
def example() -> Iterator[str]:
    """The name of the example with an inner loop, which recipes may use inside the test."""
    assert EXAMPLE not in ALGORITHMS
    with use(plugins(EXAMPLE)):
        yield EXAMPLE


@pytest.mark.parametrize("page", PAGES)
def test_the_programs_of_the_page_are_those_that_are_tested(page: str) -> None:
    found = [(Path(n).stem, text) for n, text in files(f"docs/{page}.md").items()]
    wanted = {
        "add-an-algorithm": {"heavy_ball", "prototypes"},
        "add-an-objective": {"laplace", "brier"},
    }
    assert {name for name, _ in found} == wanted[page]
    for name, program in found:
        assert program == (FOLDER / f"{name}.py").read_text(encoding="utf-8")


def test_the_page_names_what_no_metric_may_be_called() -> None:
    text = flat(text_of("add-an-objective"))
    told = re.findall(r"`(\w+)`", text.partition("something else in results:")[2].partition(".")[0])
    assert told == sorted(RESERVED)


def test_the_objective_for_labels_keeps_its_contract() -> None:
    report = metadist.check(FOLDER / "brier.py")
    assert not report.findings, report


def test_the_example_keeps_the_contract(example: str):
    cases = [*defaults_of(example), *options_of(example)]
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


def test_the_mistake_that_the_page_makes_is_noticed(example: str):
    setting = make(Case(example, "mlp-tanh", "none", 3))
    check_differences(setting)
    assert isinstance(setting.algorithm, InnerLoop)
    first_order = replace(setting, algorithm=replace(setting.algorithm, second_order=False))
    with pytest.raises(AssertionError):
        check_differences(claiming(first_order, "exact"))


# --- errors ---------------------------------------------------------------------------------------


def on_the_page(page: str, error: MetadistError, known: list[str] | None = None) -> None:
    said = str(error) if known is None else str(error).replace(", ".join(known), "…")
    assert f"Error: {said}" in flat(text_of(page))


def test_the_example_is_named_in_messages_as_the_page_says(example: str):
    with pytest.raises(RecipeError) as unknown:
        algorithms.options(example[:-1], {})
    on_the_page("add-an-algorithm", unknown.value, algorithms.names())
    with pytest.raises(RecipeError) as option:
        algorithms.options(example, {"dekay": 0.1})
    on_the_page("add-an-algorithm", option.value)


@pytest.mark.parametrize(
    ("part", "old", "new", "page"),
    [
        (
            "prototypes",
            "support = task.support\n",
            "support = task.support\n        task.query.x\n",
            "add-an-algorithm",
        ),
        (
            "prototypes",
            "return self.encoder.init(key)",
            "import torch\n        return {n: torch.randn_like(p) for n, p in "
            "self.encoder.init(key).items()}",
            "add-an-algorithm",
        ),
        ("laplace", '"mae": error', '"mea": error', "add-an-objective"),
    ],
    ids=["undeclared", "random", "score"],
)
def test_mistakes_of_a_part_are_answered_as_the_page_says(
    tmp_path: Path, part: str, old: str, new: str, page: str
) -> None:
    images, functions, _ = LEARNED
    learned, name = (images, "random_init") if part == "prototypes" else (functions, "laplace")
    path = tmp_path / f"{name}.py"
    path.write_text((FOLDER / f"{part}.py").read_text("utf-8").replace(old, new), "utf-8")
    sets = ["algorithm.name=random_init", "data.ways=4", "eval.ways=0"]
    if part == "laplace":
        sets = ["objective.name=laplace"]
    metadist.prepare("blots", data_dir=tmp_path / "data", plugins=plugins("blots"))
    with pytest.raises(MetadistError) as caught:
        learned.train(tmp_path, "wrong", *sets, plugins=[*learned.plugins, path])
    on_the_page(page, caught.value)


def test_recipes_that_do_not_go_together_are_answered_as_the_pages_say(tmp_path: Path) -> None:
    images, functions, refined = LEARNED
    metadist.prepare("blots", data_dir=tmp_path / "data", plugins=plugins("blots"))
    laplace = plugins("laplace")
    for page, learned, sets, given in (
        ("add-an-algorithm", refined, ["data.unlabeled=0", "data.distractors=0"], None),
        ("add-an-objective", images, ["objective.name=laplace"], [*images.plugins, *laplace]),
        (
            "add-an-objective",
            functions,
            ["algorithm.name=maml", "objective.name=laplace"],
            laplace,
        ),
        ("add-an-objective", functions, ['objective.name=""', "objective.degrees=3"], None),
    ):
        with pytest.raises(MetadistError) as caught:
            learned.train(tmp_path, "wrong", *sets, plugins=given or learned.plugins)
        said = RecipeError(str(caught.value).replace("episodes of blots", "episodes of strokes"))
        on_the_page(page, said)
