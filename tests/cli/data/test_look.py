"""``metadist data list``, ``verify`` and ``preview``: what is there and whether it is whole."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from damage import flip
from data_command import SIZE, done, draw_images, refused, run
from PIL import Image

from data_pipeline import datasets, functions

# --- list -------------------------------------------------------------------------------------


def test_list_names_everything_and_what_is_prepared(sharded):
    said = done("list")
    for name in datasets.names():
        assert re.search(rf"^  {name} ", said, re.MULTILINE)
        assert datasets.load(name).SPEC.licence in said
    for name in functions.names():
        assert re.search(rf"^  {name} +\S", said, re.MULTILINE)
    assert "without the support: at least 3.006\n" in said
    assert "embedded" in said
    assert f"Prepared in {Path.cwd() / 'data'}\n" in said
    assert re.search(r"mine/store +image_folder, .* 12x12 RGB, digest [0-9a-f]{12}", said)
    assert re.search(r"mine/shards/2w1s2q-seed0 +160 episodes of image_folder", said)


def test_list_of_nothing_and_of_something_damaged(store):
    assert ": nothing" in done("list", "--data-dir", "elsewhere")
    flip(store / "store.json", 20)
    assert "damaged; see 'metadist data verify'" in done("list")


# --- verify -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "what", [[], ["mine"], ["data"], ["data/mine"], ["data/mine/store"], ["--deep"]], ids=str
)
def test_verify_says_ok(sharded, what):
    said = done("verify", *what).splitlines()
    assert said
    assert all(line.startswith("OK ") for line in said)
    assert len(said) == (1 if what == ["data/mine/store"] else 2)


def test_verify_finds_a_dataset_under_its_own_name(embedded):
    done("prepare", "strokes")
    assert "strokes-default/store" in done("verify", "strokes")


def test_every_damage_is_listed(sharded, store):
    flip(store / "images-train.u8")
    (store / "images-test.u8").unlink()
    flip(sharded / "episodes-train-000000.tar", 700)
    result = run("verify")
    refused(result, "2 of 2")
    for name in ("images-train.u8", "images-test.u8", "episodes-train-000000.tar"):
        assert re.search(rf"^BAD  .*{re.escape(name)}", result.stdout, re.MULTILINE)


def test_deep_names_the_image(store):
    flip(store / "images-val.u8", 0)
    assert "'0.png' of class" not in run("verify").stdout
    assert re.search(
        r"BAD  .*images-val.u8: image '0.png' of class", run("verify", "--deep").stdout
    )


@pytest.mark.parametrize("name", ["store/store.json", "shards/2w1s2q-seed0/dataset.json"])
def test_what_lost_its_description_is_found(sharded, name):
    (Path("data/mine") / name).unlink()
    result = run("verify")
    refused(result, "1 of 2")
    assert f"BAD  {Path.cwd() / 'data/mine' / name}".rpartition("/")[0] in result.stdout


@pytest.mark.parametrize("deep", [[], ["--deep"]], ids=str)
def test_shards_of_another_store_are_found(sharded, tmp_path, deep):
    other = draw_images(tmp_path / "other", seed=1)
    replace = ["--name", "mine", "--option", f"size={SIZE}", "--replace"]
    done("prepare", "image_folder", "--source", str(other), *replace)
    result = run("verify", *deep)
    refused(result, "1 of 2")
    assert "shard it again" in result.stdout


def test_leftovers_are_mentioned(store):
    Path("data/mine/.partial-store-x").mkdir()
    said = done("verify")
    assert "note " in said
    assert ".partial-store-x" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["no class store and no shards", "metadist data prepare"]),
        (["omniglot"], ["metadist data prepare omniglot --source PATH"]),
        (["minne"], ["no 'minne'", "none"]),
        (["--data-dir", "file"], ["file"]),
    ],
    ids=str,
)
def test_verify_of_nothing_is_an_error(arguments, words):
    Path("file").touch()
    refused(run("verify", *arguments), *words)


def test_verify_names_the_nearest(store):
    refused(run("verify", "minne"), "Did you mean 'mine'?")


# --- preview ----------------------------------------------------------------------------------


@pytest.fixture
def figures() -> Callable[[str], dict[str, list[str]]]:
    def table(said: str) -> dict[str, list[str]]:
        rows = (line.rsplit(maxsplit=3) for line in said.splitlines())
        return {row[0]: row[1:] for row in rows if len(row) == 4}

    return table


def test_preview_draws_and_counts(store, figures):
    said = done("preview", "mine")
    path = Path("mine-train.png")
    assert said.splitlines()[-1] == str(path.absolute())
    with Image.open(path) as sheet:
        assert sheet.format == "PNG"
        assert min(sheet.size) > 100
    assert figures(said)["classes"] == ["10", "2", "2"]
    assert figures(said)["images"] == ["60", "12", "12"]
    assert re.search(r"comparing raw pixels gets .* train episodes right, of 10 classes\n", said)
    assert "Warning: 10 train classes are fewer than 5 x 5 ways" in said


def test_preview_of_another_part_to_another_place(store):
    done("preview", "data/mine/store", "--part", "test", "--out", "new/sheet.png")
    assert Path("new/sheet.png").is_file()


def test_preview_makes_embedded_data(embedded):
    result = run("preview", "strokes")
    assert result.exit_code == 0, result.output
    assert Path("strokes-default-train.png").is_file()


def test_preview_refuses(store, images):
    again = ["--name", "other", "--option", f"size={SIZE}"]
    done("prepare", "image_folder", "--source", str(images), *again)
    refused(run("preview", "data"), "one class store", "mine", "other")
    refused(run("preview", "sinusoid"), "needs images")
    refused(run("preview", "omniglot"), "metadist data prepare omniglot")
    refused(run("preview", "min"), "Did you mean 'mine'?")
    refused(run("preview", "mine", "--part", "tests"), "--part", "'test'")
    refused(run("preview", "mine", "--out", f"{store}/store.json/x.png"), "--out")
    flip(store / "images-val.u8")
    refused(run("preview", "mine"), "images-val.u8")
