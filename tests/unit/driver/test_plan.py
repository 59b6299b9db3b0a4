"""``--dry-run``: what a run would come to, found the way that a run goes, and nothing is made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import metadist
from metadist.api.training import dry_run
from metadist.cli.main import main
from metadist.driver.request import RunRequest
from metadist.errors import PluginError, RecipeError, RunError
from metadist.recipe.schema import parse_recipe
from metadist.runs.record import check_name

QUICK = ["outer.steps=2", "outer.batch=2", "engine.chunk=1", "eval.every=2", "eval.episodes=2"]
QUICK += ["eval.val_episodes=2", "eval.extra_queries=0", "eval.steps=1"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def asked(**changes: Any) -> dict[str, Any]:
    return {"overrides": QUICK, "name": "a", "offline": True, "device": "cpu", **changes}


def contents(root: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_it_tells_what_the_run_then_is_and_makes_nothing(tmp_path: Path):
    plan = dry_run("sinusoid-10shot-maml", **asked(workers="2:4"))
    assert contents(tmp_path) == {}
    assert not (tmp_path / "runs").exists()
    metadist.train("sinusoid-10shot-maml", **asked())
    info = json.loads((tmp_path / "runs/a/run.json").read_text())
    told = plan.to_dict()
    assert told["directory"] == str(tmp_path / "runs" / "a")
    assert told["recipe_hash"] == info["recipe_hash"]
    assert told["learner"] == info["learner"]
    assert told["dataset"]["digest"] == info["dataset"]["digest"]
    assert told["recipe"] == (tmp_path / "runs/a/recipe.toml").read_text()
    assert (told["tasks"], told["chunks"], told["workers"]) == (4, 2, "2 to 4")
    saved = list((tmp_path / "runs/a").rglob("*.safetensors"))
    assert saved
    assert max(f.stat().st_size for f in saved) == pytest.approx(
        told["checkpoints"]["bytes"], rel=0.1
    )

    before = contents(tmp_path)
    with pytest.raises(RunError, match="exists already"):
        dry_run("sinusoid-10shot-maml", **asked())
    more = dry_run(**asked(name=None, resume="a", overrides=["outer.steps=3"])).document
    assert (more["resumed"], more["status"], more["step"]) == (True, "finished", 2)
    assert more["recipe_hash"] != info["recipe_hash"]
    with pytest.raises(RunError, match="made by another recipe"):
        dry_run(**asked(name=None, resume="a", overrides=["inner.lr=0.3"]))
    found = dry_run("sinusoid-10shot-maml", **asked(name=None, resume="auto")).document
    assert (found["run"], found["resumed"]) == ("a", True)
    fresh = asked(name=None, resume="auto", overrides=[*QUICK, "inner.lr=0.3"])
    assert not dry_run("sinusoid-10shot-maml", **fresh).document["resumed"]
    assert contents(tmp_path) == before


def test_embedded_data_are_not_made(tmp_path: Path):
    told = dry_run("strokes-5w1s-maml", name="a").document
    assert (told["learner"], told["dataset"]["digest"]) == (None, None)
    assert told["dataset"]["directory"].startswith(str(tmp_path / "data"))
    assert "made first" in "\n".join(dry_run("strokes-5w1s-maml", name="a").lines())
    assert contents(tmp_path) == {}


def test_it_refuses_what_the_run_refuses():
    with pytest.raises(RecipeError, match="no prepared 'omniglot' data there"):
        dry_run("omniglot-5w1s-maml", **asked())
    with pytest.raises(RecipeError, match="Did you mean"):
        dry_run("sinusoid-10shot-maml", **asked(overrides=["inner.lrr=1"]))
    sizes = ["algorithm.name=meta_sgd", "inner.lr_changes=[[2, 0.1]]"]
    with pytest.raises(RecipeError, match="learns its step sizes"):
        dry_run("sinusoid-10shot-maml", **asked(overrides=sizes))
    with pytest.raises(RunError, match="letters, digits"):
        dry_run("sinusoid-10shot-maml", **asked(name="../x"))
    with pytest.raises(PluginError):
        dry_run("sinusoid-10shot-maml", **asked(plugins=["./none.py"]))


def test_what_the_command_prints_is_the_recipe(tmp_path: Path):
    words = ["train", "sinusoid-10shot-maml", "--dry-run", "--offline", "--name=a"]
    printed = CliRunner().invoke(main, words)
    assert printed.exit_code == 0, printed.output
    plan = dry_run("sinusoid-10shot-maml", name="a", offline=True)
    assert parse_recipe(printed.stdout) == plan.recipe
    assert f"# recipe hash {plan.recipe.hash}" in printed.stdout
    printed = CliRunner().invoke(main, [*words, "--json"])
    assert json.loads(printed.stdout) == plan.to_dict()
    assert contents(tmp_path) == {}


def test_a_file_may_be_called_as_no_run_can_be(tmp_path: Path):
    """A name is made of it nevertheless."""
    for odd in ("my recipe", "-x", "ä", "🙂" * 50, "a" * 200, ".."):
        name = RunRequest(recipe=str(tmp_path / f"{odd}.toml")).default_name
        assert len(name) < 128
        check_name(name)
