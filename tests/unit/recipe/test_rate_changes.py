"""Learning rates that change in mid-run: their writing, and what a run does with them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_runs import small_run

from metadist.algorithms import Parts, maml
from metadist.compute.learners import (
    at_checkpoint,
    build,
    check_rate_changes,
    context,
    initial_params,
)
from metadist.compute.outer_optimizer import learning_rate
from metadist.compute.resolve import resolve
from metadist.errors import RecipeError
from metadist.executors import in_process
from metadist.executors.job import Job
from metadist.inner.inner_loop import InnerLoop
from metadist.process.announce import quiet
from metadist.recipe.rate_changes import rate_after, read_changes, write_changes
from metadist.recipe.schema import Recipe, load_recipe, parse_recipe
from metadist.tasks import Examples, Task, TaskShape

SHAPE = TaskShape((1,), 1)


def test_changes_are_read_and_written() -> None:
    changes = read_changes(" 120: 0.3,180:1e-2 ")
    assert changes == ((120, 0.3), (180, 0.01))
    assert write_changes(changes) == "120: 0.3, 180: 0.01"
    awkward = ((1, 0.1 + 0.2), (2, 1e-300))
    assert read_changes(write_changes(awkward)) == awkward
    assert read_changes("") == ()
    assert [rate_after(1.0, changes, done) for done in (0, 119, 120, 179, 180)] == [
        1.0,
        1.0,
        0.3,
        0.3,
        0.01,
    ]


@pytest.mark.parametrize(
    "text", ["3", "3:", ": 0.1", "x: 0.1", "3: x", "3: 0", "3: -1", "3: nan", "0: 1", "3: 1, 3: 2"]
)
def test_what_is_no_schedule_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match=r"inner\.lr_changes"):
        load_recipe("sinusoid-10shot-maml", (f'inner.lr_changes="{text}"',))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("3", "pairs of step and rate are needed, as in .*, got 3"),
        ("[3, 0.1]", r"pairs of step and rate are needed, as in \[\[120, 0\.3\]\], got 3"),
        ("[[3]]", "got .3."),
        ("[[3, 0.1, 1]]", "pairs"),
        ("[[3.5, 0.1]]", "pairs"),
        ("[[true, 0.1]]", "pairs"),
        ("[[3, true]]", "pairs"),
        ("[[3, inf]]", "pairs"),
        (f"[[3, 1{'0' * 400}]]", "pairs"),
        ("[[3, 0]]", "pairs"),
        ("[[3, 0.1], [3, 0.2]]", "steps from 1 on that rise are needed, got 3"),
        ("[[0, 0.1]]", "steps from 1"),
    ],
)
def test_what_is_no_list_of_changes_is_refused(value: str, said: str) -> None:
    with pytest.raises(RecipeError, match=f"outer.lr_changes: .*{said}"):
        load_recipe("sinusoid-10shot-maml", (f"outer.lr_changes={value}",))


def test_a_list_is_the_same_recipe_as_the_string_of_earlier() -> None:
    """With the hash that it had then."""
    texts = ('inner.lr_changes="120: 0.3, 180:1e-2"', 'outer.lr_changes="5: 0.10"')
    earlier = load_recipe("sinusoid-10shot-maml", texts)
    lists = ("inner.lr_changes=[[120, 0.3], [1.8e2, 1e-2]]", "outer.lr_changes = [[5,0.1]]")
    recipe = load_recipe("sinusoid-10shot-maml", lists)
    assert recipe == earlier
    assert recipe.hash == "cbdbef71d608d0a62ab285fa9bc81ec31d5149ef9aabc5e0ac4b27abb60b9f6c"
    assert recipe.inner.lr_changes == ((120, 0.3), (180, 0.01))
    assert "\nlr_changes = [[120, 0.3], [180, 0.01]]\n" in recipe.to_toml()
    assert parse_recipe(recipe.to_toml()) == recipe
    assert recipe.hashed()["inner"]["lr_changes"] == "120: 0.3, 180: 0.01"
    old = recipe.to_toml().replace("[[120, 0.3], [180, 0.01]]", '"120: 0.3, 180: 0.01"')
    assert parse_recipe(old) == recipe
    whole = load_recipe("sinusoid-10shot-maml", ("inner.lr_changes=[[2, 1]]",))
    assert whole == load_recipe("sinusoid-10shot-maml", ('inner.lr_changes="2: 1"',))


def test_a_recipe_writes_it_in_one_form_and_keeps_the_hash_of_others() -> None:
    plain = load_recipe("sinusoid-10shot-maml")
    assert "lr_changes" not in plain.hashed()["inner"]
    one, other = (
        load_recipe("sinusoid-10shot-maml", (f'outer.lr_changes="{text}"',))
        for text in ("5:0.10", "5: 0.1")
    )
    assert one == other
    assert one.hash == other.hash != plain.hash


def test_a_schedule_of_the_optimiser_and_changes_do_not_go_together() -> None:
    with pytest.raises(RecipeError, match=r"needs outer\.schedule"):
        load_recipe("sinusoid-10shot-maml", ("outer.schedule=cosine", 'outer.lr_changes="5: 0.1"'))


def _adapted(recipe: Recipe, done: int) -> torch.Tensor:
    """A weight after a step on a task, with the learner of a recipe after so many outer steps."""
    learner = build(recipe, SHAPE)
    x = torch.linspace(-1, 1, 10)[:, None]
    fitted = learner.adapt(
        initial_params(recipe, learner), Task(Examples(x, x)), context(recipe, "train", done)
    )
    weight: torch.Tensor = fitted[-1].params["linear2.weight"]
    return weight.detach()


def test_the_learner_and_the_optimiser_follow() -> None:
    changes = ('inner.lr_changes="2: 0.5"', 'outer.lr_changes="3: 0.25"')
    recipe = resolve(load_recipe("sinusoid-10shot-maml", changes))
    check_rate_changes(recipe, SHAPE)
    assert [context(recipe, "train", done).inner_lr for done in range(4)] == [0.01, 0.01, 0.5, 0.5]
    for done, rate in ((1, 0.01), (2, 0.5)):
        plain = resolve(load_recipe("sinusoid-10shot-maml", (f"inner.lr={rate}",)))
        assert torch.equal(_adapted(recipe, done), _adapted(plain, done))
    assert not torch.equal(_adapted(recipe, 1), _adapted(recipe, 2))
    # A checkpoint is evaluated as it was trained last.
    for checkpoint, rate in ((0, 0.01), (2, 0.01), (3, 0.5)):
        evaluated = at_checkpoint(recipe, checkpoint)
        assert evaluated.inner.lr == context(evaluated, "test", checkpoint).inner_lr == rate
        assert not evaluated.inner.lr_changes
    assert [learning_rate(recipe.outer, step) for step in range(5)] == [1e-3] * 3 + [0.25] * 2


@pytest.mark.parametrize("algorithm", ["meta_sgd", "mamlpp"])
def test_learners_of_step_sizes_refuse_it(algorithm: str) -> None:
    settings = [f"algorithm.name={algorithm}", 'inner.lr_changes="2: 0.5"']
    if algorithm == "mamlpp":
        settings.append("algorithm.per_step_norm=false")  # there is no normalisation here
    recipe = resolve(load_recipe("sinusoid-10shot-maml", tuple(settings)))
    with pytest.raises(RecipeError, match="learns its step sizes"):
        check_rate_changes(recipe, SHAPE)


def _digest(directory: Path, *settings: str) -> str:
    run, data = small_run(directory, *settings)
    return str(in_process.execute(Job(run.path, data), quiet)["params_sha256"])


@pytest.mark.slow
def test_a_change_changes_what_comes_after_it(tmp_path: Path) -> None:
    plain = _digest(tmp_path / "a")
    assert _digest(tmp_path / "b", 'inner.lr_changes="3: 0.01"') == plain  # the rate it had
    assert _digest(tmp_path / "c", 'inner.lr_changes="3: 0.02"') != plain
    assert _digest(tmp_path / "d", 'outer.lr_changes="5: 0.1"') != plain
    assert _digest(tmp_path / "e", 'outer.lr_changes="6: 0.1"') == plain  # after the last step


def test_a_learner_that_keeps_its_rate_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is built with the rate would go on with the first; Meta-SGD's are learned."""
    changed = load_recipe("sinusoid-10shot-maml", ('inner.lr_changes="2: 0.3"',))
    check_rate_changes(resolve(changed), SHAPE)

    def keeps(parts: Parts[maml.Options]) -> InnerLoop:
        assert parts.inner_lr > 0
        return right(parts)

    right = maml.build
    monkeypatch.setattr(maml, "build", keeps)
    with pytest.raises(RecipeError, match="does not read ctx"):
        check_rate_changes(resolve(changed), SHAPE)
