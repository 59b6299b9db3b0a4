"""``metadist tune --dry-run``: what would be searched; nothing is made, and nobody is asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from small_spaces import SMALL_SPACE

from metadist.api.tuning import dry_run
from metadist.cli.main import main
from metadist.errors import SpaceError
from metadist.recipe.schema import parse_recipe
from metadist.search.plan import make_plan, plan_of
from metadist.search.request import LASTING
from metadist.search.search_dir import TrialRecord, create_search


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def files(root: Path) -> list[Path]:
    return sorted(root.rglob("*"))


def test_a_new_search(tmp_path: Path) -> None:
    words = ["tune", "sinusoid-lr", "--dry-run", "--name=s", "--trials=5", "--searcher=random"]
    printed = CliRunner().invoke(main, words)
    assert printed.exit_code == 0, printed.output
    found = dry_run("sinusoid-lr", name="s", trials=5, searcher="random")
    assert printed.stdout.splitlines() == found.lines()
    assert parse_recipe(printed.stdout) == found.recipe
    printed = CliRunner().invoke(main, [*words, "--json"])
    told = json.loads(printed.stdout)
    assert told == found.to_dict()
    assert told["directory"] == str(tmp_path / "runs" / "searches" / "s")
    assert (told["trials"], told["done"], told["tasks"]) == (5, 0, 5 * 2000 * 25)
    assert plan_of(told).recipe({}).hash == told["recipe_hash"]
    assert files(tmp_path) == []
    with pytest.raises(SpaceError, match="Did you mean 'lr'"):
        dry_run("sinusoid-lr", overrides=["inner.lrr=1"])


def test_one_that_goes_on(tmp_path: Path) -> None:
    plan = make_plan("sinusoid-lr", SMALL_SPACE)
    search = create_search(tmp_path / "runs", "s", {"plan": plan.document(), "lasting": LASTING})
    search.record(TrialRecord(1, {}, "trial-0001", "finished", score=0.5))
    before = files(tmp_path)
    found = dry_run(resume="s", trials=plan.trials + 2).document
    assert (found["done"], found["trials"]) == (1, plan.trials + 2)
    with pytest.raises(SpaceError, match="exists already"):
        dry_run("sinusoid-lr", name="s")
    with pytest.raises(SpaceError, match="only the number of trials may change"):
        dry_run(resume="s", steps=10)
    assert files(tmp_path) == before
