"""``metadist data shard``: the shards that a run reads, and every way it fails."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from data_command import done, refused, run


def test_shards_are_those_that_a_run_reads(sharded, recipe):
    from metadist.episode_data import open_data
    from metadist.recipe.schema import load_recipe

    root = Path("data").resolve()
    sources = [
        open_data(load_recipe(recipe, (f"data.storage={storage}",)), root).training()
        for storage in ("live", "shards")
    ]
    live, shards = (source.episodes(range(160)).arrays() for source in sources)
    for name, array in live.items():
        assert np.array_equal(array, shards[name])


def test_shard_says_how_much_and_what_next(store, recipe):
    result = run("shard", recipe, "--writers", "1", "--set", "data.seed=3")
    assert result.exit_code == 0, result.output
    assert re.search(r"160 episodes of about [\d,]+ bytes, together about .* go to ", result.stderr)
    next_command = "metadist train mine.toml --set data.seed=3 --set data.storage=shards"
    assert next_command in result.stderr
    assert result.stdout.startswith("160 episodes (inline) are in ")
    assert Path("data/mine/shards/2w1s2q-seed3/dataset.json").is_file()


def test_shard_takes_a_banks_length_from_the_recipe(store, recipe):
    said = done("shard", recipe, "--writers", "1", "--set", "data.episodes=70")
    assert said.startswith("70 episodes")


def test_shard_again_is_a_no_op_unless_it_is_something_else(sharded, recipe):
    kept = (sharded / "dataset.json").stat().st_mtime_ns
    assert "160 episodes (inline) were in" in done("shard", recipe)
    assert "160 episodes (inline) were in" in done("shard", recipe, "--count", "64")
    refused(run("shard", recipe, "--count", "161"), "0 to 160 are needed", "--replace")
    refused(run("shard", recipe, "--payload", "index"), "'index'", "'inline'", "--replace")
    assert (sharded / "dataset.json").stat().st_mtime_ns == kept
    assert "index" in done("shard", recipe, "--payload", "index", "--writers", "1", "--replace")


def test_too_few_episodes_are_said(store, recipe):
    result = run("shard", recipe, "--count", "64", "--writers", "1")
    assert "needs 160 episodes and will refuse these" in result.stderr


def test_large_images_are_looked_up(images, recipe):
    large = ["--source", str(images), "--option", "size=33", "--name", "mine"]
    done("prepare", "image_folder", *large)
    assert "(index)" in done("shard", recipe, "--count", "64", "--writers", "1")


def test_functions_and_embedded_data_prepare_themselves(embedded):
    assert "(inline)" in done("shard", "sinusoid-5shot-maml", "--count", "64")
    result = run("shard", "strokes-5w1s-maml", "--count", "64", "--set", "data.episodes=64")
    assert result.exit_code == 0, result.output
    assert "Making strokes" in result.stderr
    assert done("verify", "--deep").count("OK ") == 3


@pytest.mark.slow  # two processes that import everything; tests/data holds the bytes
def test_two_writers_give_the_same_bytes(sharded, recipe):
    def content() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sharded.iterdir()}

    several = ["--shard-episodes", "64", "--replace"]
    done("shard", recipe, "--writers", "1", *several)
    one = content()
    done("shard", recipe, "--writers", "2", *several)
    assert len(one) == 5
    assert content() == one


def test_shard_refuses_a_disk_without_room(store, recipe, monkeypatch):
    usage = SimpleNamespace(total=1000, used=900, free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    result = run("shard", recipe, "--writers", "1")
    refused(result, "100 are free", "make room")
    assert "160 episodes of about" in result.stderr
    assert not Path("data/mine/shards/2w1s2q-seed0").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mine.toml"], ["metadist data prepare image_folder --source PATH", "--name mine"]),
        (["mine.toml", "--writers", "-1"], ["--writers", "-1"]),
        (["mine.toml", "--writers", "0"], ["--writers"]),
        (["mine.toml", "--count", "0"], ["--count"]),
        (["mine.toml", "--payload", "png"], ["--payload", "'png'"]),
        (["mine.toml", "--set", "data.wayss=2"], ["Did you mean 'ways'?"]),
        (["mine.toml", "--set", "data.store=../up"], ["'../up'"]),
        (["sinusoid-5shot-maml", "--shard-episodes", "65"], ["64", "65"]),
        (["sinusoid-5shot-maml", "--payload", "index", "--count", "64"], ["'index'", "inline"]),
    ],
    ids=" ".join,
)
def test_shard_refuses(arguments, words, recipe):
    refused(run("shard", *arguments), *words)
    assert not list(Path.cwd().glob("data/*/shards/*"))
