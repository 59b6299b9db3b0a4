"""``metadist data``: from a folder of images to shards that a run reads, and every way it fails."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from data_pipeline import datasets, functions
from metadist.cli.main import main

CLASSES, IMAGES, SIZE = 14, 6, 12
RECIPE = """
[data]
dataset = "image_folder"
store = "mine"
ways = 2
queries = 2

[model]
name = "conv4"

[algorithm]
name = "maml"

[outer]
steps = 40
batch = 4
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["data", *arguments], prog_name="metadist")


def done(*arguments: str) -> str:
    """Standard output of a command that must work."""
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(result: Result, *words: str) -> None:
    assert result.exit_code in (1, 2), result.output
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    error = result.stderr.splitlines()[-1]
    assert error.startswith("Error:"), result.output
    for word in words:
        assert word in error


def draw_images(folder: Path, seed: int = 0) -> Path:
    """A folder of one folder of noise per class."""
    noise = np.random.default_rng(seed)
    for c in range(CLASSES):
        place = folder / f"class{c:02d}"
        place.mkdir(parents=True)
        for i in range(IMAGES):
            pixels = noise.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / f"{i}.png")
    return folder


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_images(tmp_path_factory.mktemp("raw") / "images")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def prepare(images: Path) -> Callable[..., str]:
    """Prepares the images as the store ``mine``."""

    def command(*arguments: str) -> str:
        options = ["--name", "mine", "--option", f"size={SIZE}", *arguments]
        return done("prepare", "image_folder", "--source", str(images), *options)

    return command


@pytest.fixture
def recipe() -> str:
    Path("mine.toml").write_text(RECIPE)
    return "mine.toml"


@pytest.fixture
def store(prepare: Callable[..., str]) -> Path:
    prepare()
    return Path("data/mine/store")


@pytest.fixture
def sharded(store: Path, recipe: str) -> Path:
    done("shard", recipe, "--writers", "1")
    return Path("data/mine/shards/2w1s2q-seed0")


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes strokes with few alphabets: the same path as all of it, in less time."""
    from data_pipeline.datasets import strokes

    monkeypatch.setattr(strokes, "ALPHABETS", (("train", 1), ("val", 1), ("test", 1)))
    monkeypatch.setattr(strokes, "_characters", strokes._characters.__wrapped__)


def flip(path: Path, at: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


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


# --- prepare ----------------------------------------------------------------------------------


def test_prepare_says_what_it_made(prepare):
    said = prepare()
    assert str(Path.cwd() / "data/mine/store") in said
    assert "is prepared" in said
    assert f"{CLASSES * IMAGES} images of 12x12 RGB: train 10 classes (60 images)" in said
    assert re.search(r"digest: [0-9a-f]{64}\n", said)
    assert f"{CLASSES * IMAGES} files" in said  # its own description
    again = prepare()
    assert "was there already" in again
    assert said.splitlines()[1:] == again.splitlines()[1:]
    assert "is prepared" in prepare("--replace")


def test_prepare_goes_where_it_is_told(prepare, monkeypatch):
    monkeypatch.setenv("METADIST_DATA_DIR", "shelf")
    prepare()
    assert Path("shelf/mine/store/store.json").is_file()
    prepare("--data-dir", "other")
    assert Path("other/mine/store/store.json").is_file()
    assert not Path("data").exists()


def test_prepare_embedded_data(embedded):
    assert "digest: " in done("prepare", "strokes")
    assert Path("data/strokes-default/store/store.json").is_file()


def test_function_families_need_no_preparation():
    assert "no preparation" in done("prepare", "sinusoid")
    assert not Path("data").exists()


def test_download_uses_the_datasets_own(monkeypatch, images):
    module = datasets.load("image_folder")
    fetched = []

    def download(target: Path) -> Path:
        fetched.append(target)
        return images

    monkeypatch.setattr(module, "download", download, raising=False)
    done("prepare", "image_folder", "--download", "--option", "size=12")
    assert fetched == [Path.cwd() / "data/image_folder/source"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["stroke"], ["Did you mean 'strokes'?"]),
        (["strokes", "--split", "lake"], ["'lake'", "default"]),
        (["strokes", "--source", "."], ["no source"]),
        (["strokes", "--download"], ["nothing to download"]),
        (["omniglot"], ["metadist data prepare omniglot --source PATH"]),
        (["omniglot", "--source", "nowhere"], ["nowhere", "no such file"]),
        (["omniglot", "--source", "file"], ["file: not a readable Parquet file"]),
        (["omniglot", "--source", "empty"], ["empty: no images_background"]),
        (["omniglot", "--split", "lakes", "--source", "."], ["'lakes'", "lake"]),
        (["mini_imagenet", "--download"], ["--source PATH"]),
        (["image_folder", "--source", "nowhere"], ["nowhere", "no such folder"]),
        (["image_folder", "--source", "file"], ["file", "no such folder"]),
        (["image_folder", "--source", "empty"], ["<class>/<image>"]),
        (["image_folder", "--source", ".", "--download"], ["--source and --download"]),
        (["image_folder", "--source", ".", "--option", "size"], ["key=value", "'size'"]),
        (["image_folder", "--source", ".", "--option", "size=big"], ["whole number", "'big'"]),
        (["image_folder", "--source", ".", "--option", "sise=8"], ["Did you mean 'size'?"]),
        (["strokes", "--name", "../up"], ["'../up'"]),
        (["strokes", "--name", "/up"], ["'/up'"]),
        (["strokes", "--name", ".."], ["'..'"]),
        (["strokes", "--data-dir", "file"], ["file"]),
    ],
    ids=" ".join,
)
def test_prepare_refuses(arguments, words):
    Path("file").write_bytes(b"no images")
    Path("empty").mkdir()
    refused(run("prepare", *arguments), *words)
    assert not list(Path.cwd().glob("data/*/store"))


def test_prepare_keeps_another_store_of_that_name(store, images):
    kept = (store / "store.json").read_bytes()
    again = ["prepare", "image_folder", "--source", str(images), "--name", "mine"]
    refused(run(*again, "--option", "size=16"), "--name", "--replace")
    assert (store / "store.json").read_bytes() == kept


def test_a_file_that_is_no_image_is_named(tmp_path):
    folder = draw_images(tmp_path / "raw")
    (folder / "class03" / "3.png").write_bytes(b"\x89PNG but not really")
    refused(run("prepare", "image_folder", "--source", str(folder)), "class03/3.png")
    assert not Path("data/image_folder-by_class/store").exists()


# --- shard ------------------------------------------------------------------------------------


def test_shards_are_those_that_a_run_reads(sharded, recipe):
    from metadist.engine.data import open_data
    from metadist.recipe import load_recipe

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
    assert "comparing raw pixels gets" in said


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
