"""``metadist data embed`` and ``cluster``, and runs that learn from clusters."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from data_command import done, refused, run

from data_pipeline.partitions.layout import open_partitions
from data_pipeline.store.class_store import open_store
from metadist.cli.main import main
from metadist.compute.resolve import resolve
from metadist.driver.preflight import preflight
from metadist.recipe.schema import load_recipe

CLUSTER = ("cluster", "mine", "--clusters", "4", "--smallest", "3")


@pytest.fixture
def embedding(store: Path) -> str:
    said = done("embed", "mine", "--steps", "3", "--batch", "8", "--latent", "2", "--width", "2")
    assert said == f"{Path('mine-autoencoder.parquet').absolute()}\n"
    return said.strip()


def test_images_are_embedded_and_clustered(embedding: str, recipe: str):
    said = done(*CLUSTER, "--embedding", embedding, "--name", "own")
    root = Path("data/mine/partitions/own")
    held = open_partitions(root, open_store(Path("data/mine/store")))
    lines = said.splitlines()
    assert lines[0].startswith(f"1 partition into {held.clusters} clusters of ")
    assert lines[0].endswith(f"are in {root.absolute()}")
    assert lines[1] == f"  digest: {held.digest}"
    assert held.made["embedding"] == "mine-autoencoder.parquet"
    assert {"by", "clusters", "smallest", "seed", "embedding_sha256"} < held.made.keys()
    assert f"mine/partitions/own {'':23}1 partition of image_folder" in done("list")
    assert "OK " in done("verify", "mine")
    again = done(*CLUSTER, "--embedding", embedding, "--name", "again")
    assert again.splitlines()[1] == lines[1]
    refused(run(*CLUSTER, "--embedding", embedding, "--name", "own"), "--replace")


def test_pixels_are_clustered_and_judged(store: Path):
    result = run(*CLUSTER)
    assert result.exit_code == 0, result.output
    assert "Train from them: --set data.partition=kmeans" in result.stderr
    refused(run(*CLUSTER, "--embedding", "none.parquet"), "none.parquet", "no such file")
    refused(run("cluster", "mine", "--clusters", "500"), "--clusters")


def test_a_recipe_names_partitions(store: Path, recipe: str):
    done("cluster", "mine", "--by", "random", "--clusters", "4", "--smallest", "3")
    small, wanted = "eval.extra_queries=2", "data.partition=random"
    data = preflight(resolve(load_recipe(recipe, (small, wanted))), Path("data")).data
    assert data.partitions is not None
    assert data.shape.classes == data.partitions.clusters
    plain = preflight(resolve(load_recipe(recipe, (small,))), Path("data")).data
    assert data.digest != plain.digest
    assert data.training().identity.payload == {"partitions": data.partitions.digest}
    # What is held out is as labelled, so that both can be compared in pairs.
    for part in ("val", "test"):
        sources = (one.live(part, 2, 0) for one in (data, plain))
        assert len({source.identity.digest for source in sources}) == 1
    refused(run("shard", recipe, "--set", "data.partition=none"), "partitions/none", "data cluster")
    said = "lower data.shots (1) or data.queries (40), or cluster again with --smallest 41"
    refused(run("shard", recipe, "--set", "data.queries=40", "--set", wanted), said)
    said = "lower data.ways (5)"
    more = "partitions with more clusters (data.partition)"
    refused(run("shard", recipe, "--set", "data.ways=5", "--set", wanted), said, more)


def test_shards_of_clusters_have_a_place_of_their_own(store: Path, recipe: str):
    done("cluster", "mine", "--by", "random", "--clusters", "4", "--smallest", "3")
    done("shard", recipe, "--set", "data.partition=random", "--count", "64", "--writers", "1")
    assert Path("data/mine/shards/2w1s2q-random-seed0/dataset.json").is_file()


@pytest.mark.slow
def test_a_run_records_its_partitions_and_refuses_others(store: Path, recipe: str):
    """Trained from clusters, tested on classes; other clusters under the name are noticed."""
    made = ("cluster", "mine", "--by", "random", "--clusters", "4", "--smallest", "3")
    done(*made, "--name", "own")

    def command(*words: str):
        return CliRunner().invoke(main, list(words), prog_name="metadist")

    settings = ("outer.steps=2", "outer.batch=2", "model.filters=4", "eval.episodes=4")
    more = ("eval.val_episodes=4", "eval.every=2", "inner.lr=0.01", "eval.extra_queries=0")
    words = [word for s in (*settings, *more, "data.partition=own") for word in ("--set", s)]
    trained = command("train", recipe, *words, "--workers", "0", "--offline", "--name", "one")
    assert trained.exit_code == 0, trained.output
    held = json.loads(Path("runs/one/run.json").read_text())
    held = held.get("body", held)["dataset"]["partition"]
    store_digest = open_store(Path("data/mine/store")).digest
    assert (held["name"], held["by"], held["store_digest"]) == ("own", "random", store_digest)
    assert command("evaluate", "one").exit_code == 0
    done(*made, "--name", "own", "--seed", "1", "--replace")
    told = command("evaluate", "one")
    assert told.exit_code == 1
    assert "made with dataset digest" in told.stderr
