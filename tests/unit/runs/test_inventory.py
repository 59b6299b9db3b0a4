"""``metadist runs``: which runs are meant, and which may not be deleted."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from data_pipeline.storage.object_uri import local_path
from data_pipeline.storage.objects import object_place
from metadist.cli.main import main
from metadist.recipe.schema import load_recipe
from metadist.runs.inventory import kept_by, named, select
from metadist.runs.listing import create_run, list_runs
from metadist.runs.object_store import claims
from metadist.runs.run_dir import RunDir

Make = Callable[..., RunDir]
OLD = "2020-05-05T10:00:00+00:00"


def make(root: Path, name: str, *overrides: str, **facts: Any) -> RunDir:
    recipe = load_recipe("sinusoid-10shot-maml", overrides)
    return create_run(root, name, recipe, {"mlflow": None, "status": "finished", **facts})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three runs: good, better, and one of long ago that failed."""
    root = tmp_path / "runs"
    result = {"mse": 0.5, "ci95": 0.1, "steps": 30}
    make(root, "first", result=result)
    make(root, "second", "inner.lr=0.02", result={**result, "mse": 0.25})
    make(root, "old", "algorithm.name=fomaml", status="failed", created=OLD)
    return root


def runs(root: Path | str, *arguments: str, given: str = "") -> Result:
    words = ["runs", *arguments, "--runs-dir", str(root)]
    return CliRunner().invoke(main, words, input=given, prog_name="metadist")


def there(root: Path) -> list[str]:
    return sorted(run.name for run in list_runs(root))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), ["second", "first", "old"]),
        (("--sort", "name"), ["first", "old", "second"]),
        (("--sort", "score"), ["second", "first", "old"]),
        (("--sort", "-score"), ["first", "second", "old"]),
        (("--filter", "algorithm=maml"), ["second", "first"]),
        (("--filter", "name=*s*"), ["second", "first"]),
        (("--filter", "inner.lr=0.02"), ["second"]),
        (("--filter", "status=finished", "--filter", "algorithm=fomaml"), []),
        (("--since", "7d"), ["second", "first"]),
        (("--since", "2020-05-01"), ["second", "first", "old"]),
    ],
)
def test_runs_are_listed(root: Path, arguments: tuple[str, ...], expected: list[str]) -> None:
    done = runs(root, *arguments, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["runs"]
    assert [one["name"] for one in found] == expected
    table = runs(root, "list", *arguments).stdout.splitlines()
    assert [line.split()[0] for line in table[1:]] == expected
    if found and found[0]["name"] == "second":
        assert (found[0]["metric"], found[0]["score"], found[0]["steps"]) == ("mse", 0.25, 30)
        assert found[0]["size"] == RunDir(root / "second").store.size() > 0
        assert "mse 0.250 ± 0.100" in table[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--filter", "algoritm=x"), "Did you mean 'algorithm'"),
        (("--filter", "maml"), "KEY=VALUE is needed"),
        (("--since", "yesterday"), "or a date as 2026-01-31"),
        (("--sort", "siz"), "Did you mean 'size'"),
        (("delete",), "NAME… is needed"),
        (("delete", "gone", "--yes"), "no run 'gone'"),
        (("delete", "../first", "--yes"), "letters, digits"),
        (("delete", ".", "--yes"), "letters, digits"),
        (("delete", "searches", "--yes"), "no run 'searches'"),
    ],
)
def test_mistakes(root: Path, arguments: tuple[str, ...], words: str) -> None:
    (root / "searches").mkdir()
    done = runs(root, *arguments)
    assert done.exit_code in (1, 2)
    assert words in done.stderr
    assert there(root) == ["first", "old", "second"]


def test_deletion_says_what_goes_and_asks(root: Path) -> None:
    done = runs(root, "delete", "first", "old", given="n\n")
    assert done.exit_code != 0
    assert there(root) == ["first", "old", "second"]
    assert "2 runs, 0 checkpoints, " in done.stderr
    done = runs(root, "delete", "first", "old", "--json", given="y\n")
    assert json.loads(done.stdout) == {"deleted": ["first", "old"], "deleted_in_mlflow": []}
    assert [p.name for p in root.iterdir()] == ["second"]
    assert runs(root, "delete", "--filter", "name=sec*", "--yes").exit_code == 0
    assert list(root.iterdir()) == []


def test_what_a_run_links_to_stays(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    run = make(outside, "real")
    (root / "link").symlink_to(run.path)
    (root / "first" / "data").symlink_to(outside)
    for line in (("delete", "link"), ("delete", "--filter", "name=*")):
        done = runs(root, *line, "--yes")
        assert done.exit_code == 1
        assert f"it is a link to {run.path}" in done.stderr
    assert runs(root, "delete", "first", "--yes").exit_code == 0
    assert there(outside) == ["real"]
    assert not (root / "first").exists()


def test_a_run_at_work_stays(root: Path) -> None:
    RunDir(root / "first").update(status="running")
    assert "first: it is at work" in runs(root, "delete", "first", "old", "--yes").stderr
    assert there(root) == ["first", "old", "second"]
    # Its process has died: nothing has been written for long.
    RunDir(root / "old").update(status="running")
    before = time.time() - 3600
    for path in (root / "old").rglob("*"):
        os.utime(path, (before, before))
    assert runs(root, "delete", "old", "--yes").exit_code == 0


def test_what_others_are_made_of_stays(root: Path) -> None:
    ensemble = root / "ensembles" / "both"
    ensemble.mkdir(parents=True)
    members = [{"run": "first"}, {"run": "second"}]
    (ensemble / "ensemble.json").write_text(json.dumps({"members": members}))
    make(root, "branch", forked_from={"run": "old", "step": 3})
    reasons = kept_by(root, select(root))
    assert reasons == dict.fromkeys(
        ("first", "second"), f"the ensemble {ensemble} is made of it; remove that first"
    )
    assert kept_by(root, named(root, ["old"])) == {
        "old": "branch branches from it; delete that too"
    }
    assert kept_by(root, named(root, ["old", "branch"])) == {}
    (ensemble / "ensemble.json").write_text("[3]")
    assert kept_by(root, named(root, ["first"])) == {}
    (root.parent / "search.json").write_text("{}")
    assert "the search" in kept_by(root, named(root, ["first"]))["first"]


def test_a_run_in_an_object_store_is_deleted_there(
    shelf: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "SETTLE_SECONDS", 0.0, raising=False)
    for name in ("a", "b"):
        make(local_path(shelf), name)
    assert runs(shelf, "delete", "a", "--yes").exit_code == 0
    monkeypatch.setenv("METADIST_CACHE_DIR", str(tmp_path / "another"))
    assert there(local_path(shelf)) == ["b"]
    place = object_place(local_path(shelf) / "a")
    assert place is not None
    assert place.objects() == []
