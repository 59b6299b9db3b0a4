"""A store is used again for the same contents and the same code only, however alike they look."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import plugin_files
import pytest
from PIL import Image
from small_images import fill

from data_pipeline.datasets import PARTS, mini_imagenet
from data_pipeline.datasets._mini_imagenet_classes import CLASSES
from data_pipeline.errors import DamagedData, DataError, MissingData
from data_pipeline.storage import local
from data_pipeline.store.build import build_store
from metadist.episode_data import open_data
from metadist.episode_data.places import prepare
from metadist.plugins import use
from metadist.recipe.schema import load_recipe


def swap_unseen(one: Path, other: Path) -> None:
    """Exchange the contents of two files; names, sizes and times stay."""
    times = {path: path.stat() for path in (one, other)}
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    for path, held in times.items():
        os.utime(path, ns=(held.st_atime_ns, held.st_mtime_ns))
        assert path.stat().st_size == held.st_size


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six classes of two BMP images, all of one size in bytes."""
    root = fill(tmp_path / "photos", "abcdef")
    for path in root.rglob("*.png"):
        Image.open(path).save(path.with_suffix(".bmp"))
        path.unlink()
    return root


def edit(store: Path, description: dict[str, str]) -> None:
    """Give a store another description."""
    body = local.read_sealed_json(store / "store.json")
    local.write_sealed_json(store / "store.json", {**body, "description": description})


# --- images -----------------------------------------------------------------------------------


def test_images_edited_in_place_are_not_taken_for_the_old_ones(photos, tmp_path):
    made = build_store("image_folder", tmp_path, source=photos)
    # A copy has other times, inodes and places, and is the same.
    copy = Path(shutil.copytree(photos, tmp_path / "copy", copy_function=shutil.copyfile))
    assert build_store("image_folder", tmp_path, source=copy).digest == made.digest
    swap_unseen(photos / "a/0.bmp", photos / "b/0.bmp")
    with pytest.raises(DataError, match=r"another store .*contents of the source.*--replace"):
        build_store("image_folder", tmp_path, source=photos)
    assert build_store("image_folder", tmp_path).digest == made.digest  # no source is named
    assert build_store("image_folder", tmp_path, source=photos, replace=True).digest != made.digest


def test_images_that_change_while_they_are_read_make_no_store(photos, tmp_path):
    def progress(count: int, name: str) -> None:
        if name == "b" and not count % 2:
            swap_unseen(photos / "a/0.bmp", photos / "b/0.bmp")

    with pytest.raises(DataError, match="changed while it was read"):
        build_store("image_folder", tmp_path, source=photos, progress=progress)
    assert not list((tmp_path / "image_folder-by_class").iterdir())


def test_a_store_of_before_is_neither_trusted_nor_thrown_away(photos, tmp_path):
    store = build_store("image_folder", tmp_path, source=photos)
    edit(store.root, {"images": "12 files", "listing_sha256": "0" * 64})
    kept = (store.root / "store.json").read_bytes()
    with pytest.raises(DataError, match=r"earlier version.*not record source_sha256.*--replace"):
        build_store("image_folder", tmp_path, source=photos)
    assert (store.root / "store.json").read_bytes() == kept
    assert build_store("image_folder", tmp_path).digest == store.digest
    again = build_store("image_folder", tmp_path, source=photos, replace=True)
    assert again.digest == store.digest


def test_the_images_of_a_list_are_known_by_content(tmp_path):
    for part in PARTS:
        lines = ["filename,label"]
        for wnid in CLASSES[part]:
            (tmp_path / "mini/images").mkdir(parents=True, exist_ok=True)
            shade = tuple(local.sha256_bytes(wnid.encode()).encode()[:3])
            Image.new("RGB", (9, 9), shade).save(tmp_path / f"mini/images/{wnid}.bmp")
            lines.append(f"{wnid}.bmp,{wnid}")
        (tmp_path / f"mini/{part}.csv").write_text("\n".join(lines))
    before = mini_imagenet.describe(tmp_path / "mini")
    one, other = (tmp_path / f"mini/images/{CLASSES['val'][i]}.bmp" for i in (0, 1))
    swap_unseen(one, other)
    after = mini_imagenet.describe(tmp_path / "mini")
    assert {key for key in before if before[key] != after[key]} == {"source_sha256_val"}


def test_a_file_that_cannot_be_read_is_named(photos, tmp_path, monkeypatch):
    def denied(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(local, "sha256_file", denied)
    with pytest.raises(DataError, match=r"a/0\.bmp: cannot be read .Permission denied"):
        build_store("image_folder", tmp_path, source=photos)


def test_how_names_are_read_is_asked_for_even_without_a_source(photos, tmp_path):
    build_store("image_folder", tmp_path, source=photos)
    with pytest.raises(DataError, match="class_names"):
        build_store("image_folder", tmp_path, options={"class_names": "paths"})


# --- datasets from outside --------------------------------------------------------------------

#: Reads nine bytes from each file of its source.
READER = '''"""Squares from files."""

import numpy as np

from data_pipeline.datasets import DatasetSpec, PARTS, RawImage

PART = "dataset"
SPEC = DatasetSpec("{name}", "files", "none", (3, 3, 1), splits=("default",), version=1)


def iter_images(source=None, split="", **options):
    for part in PARTS:
        for path in sorted((source / part).iterdir()):
            pixels = np.frombuffer(path.read_bytes(), np.uint8).reshape(3, 3, 1)
            yield RawImage(part, path.name, "only", pixels)
'''


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Nine bytes for each of two classes in each part."""
    for p, part in enumerate(PARTS):
        (tmp_path / "files" / part).mkdir(parents=True)
        for c in "ab":
            (tmp_path / "files" / part / f"{part}-{c}").write_bytes(bytes([p, *c.encode()] * 9)[:9])
    return tmp_path / "files"


def test_a_plugins_own_files_are_known_by_content(files, tmp_path):
    with use(plugin_files.write(tmp_path / "nine.py", READER)):
        made = build_store("nine", tmp_path, source=files)
        assert build_store("nine", tmp_path, source=files).digest == made.digest
        swap_unseen(files / "test/test-a", files / "test/test-b")
        with pytest.raises(DataError, match="other contents of the source: source_sha256"):
            build_store("nine", tmp_path, source=files)
        with pytest.raises(MissingData, match="nowhere: no such file or folder"):
            build_store("nine", tmp_path, source=tmp_path / "nowhere")
        # Beside what it reads may lie anything: names that are no Unicode, links in circles.
        Path(os.fsdecode(os.fsencode(files) + b"/caf\xe9")).write_bytes(b"")
        (files / "round").symlink_to(files)
        assert build_store("nine", tmp_path, source=files, name="other").digest != made.digest


RECIPE = """
[data]
dataset = "grey"
ways = 2
[model]
name = "mlp"
[algorithm]
name = "maml"
"""


def test_a_plugin_that_was_edited_is_not_served_by_the_store_of_the_old_one(tmp_path):
    (tmp_path / "grey.toml").write_text(RECIPE)
    recipe = load_recipe(str(tmp_path / "grey.toml"), ())
    plugin = plugin_files.write(tmp_path / "grey.py", plugin_files.DATASET)
    with use(plugin):
        prepare(recipe, tmp_path)
        prepare(recipe, tmp_path)
        made = open_data(recipe, tmp_path).digest
    plugin.write_text(plugin.read_text().replace("+ copy", "+ 3 - copy"))
    with use(plugin):
        for again in (lambda: prepare(recipe, tmp_path), lambda: build_store("grey", tmp_path)):
            with pytest.raises(DataError, match=r"other code of the dataset: code.*--replace"):
                again()
        assert build_store("grey", tmp_path, replace=True).digest != made
        prepare(recipe, tmp_path)
        root = tmp_path / "grey-default/store"
        edit(root, {})
        with pytest.raises(DataError, match=r"earlier version.*code_sha256"):
            prepare(recipe, tmp_path)


def test_a_recipe_is_not_served_by_a_store_of_another_dataset_split_or_version(toy, tmp_path):
    from data_pipeline.store.build import check_current

    root = build_store("toy", tmp_path, options={"shade": 9}).root
    check_current(root, "toy", "one")  # made with options, and asked for by name
    said_of_split = r"split 'one', not 'two'.*data\.store.* --split two --name toy-one --replace"
    for split, version, said in (("two", 1, said_of_split), ("one", 2, "version 1.*make it anew")):
        toy.SPEC = type(toy.SPEC)(**{**vars(toy.SPEC), "version": version})
        with pytest.raises(DataError, match=said):
            check_current(root, "toy", split)
    toy.SPEC = type(toy.SPEC)(**{**vars(toy.SPEC), "name": "other"})
    with pytest.raises(DataError, match=r"dataset 'toy', not 'other'.*data\.store.*--name toy-one"):
        check_current(root, "other", "")


def test_a_damaged_store_is_made_anew_by_the_command_that_is_named(photos, tmp_path):
    root = build_store("image_folder", tmp_path, source=photos, name="mine").root
    (root / "images-train.u8").write_bytes(b"")
    command = "image_folder --source PATH --split by_class --name mine --replace"
    with pytest.raises(DamagedData, match=command):
        build_store("image_folder", tmp_path, source=photos, name="mine")


def test_data_that_make_themselves_take_no_source_even_if_they_are_there(toy, tmp_path):
    build_store("toy", tmp_path)
    with pytest.raises(DataError, match="takes no source"):
        build_store("toy", tmp_path, source=tmp_path)


LINES = """
[data]
dataset = "slope"
ways = 0
shots = 2
queries = 2
episodes = 128
storage = "shards"
[model]
name = "mlp"
[algorithm]
name = "maml"
"""


def test_shards_of_a_function_that_was_edited_are_refused(tmp_path):
    from data_pipeline.shards.writer import write_shards
    from metadist.episode_data.places import shards_root

    (tmp_path / "slope.toml").write_text(LINES)
    recipe = load_recipe(str(tmp_path / "slope.toml"), ())
    plugin = plugin_files.write(tmp_path / "slope.py", plugin_files.FUNCTION)
    with use(plugin):
        data = open_data(recipe, tmp_path)
        live = data.live("train", recipe.data.queries, recipe.data.seed)
        write_shards(live, 128, shards_root(tmp_path, recipe))
        np.testing.assert_array_equal(
            data.training().episodes([3]).support_y, live.episodes([3]).support_y
        )
    plugin.write_text(plugin.read_text().replace("numbers[0] * x", "numbers[0] * x + 1"))
    with use(plugin), pytest.raises(DataError, match=r"hold another \w+_y than 'slope' draws now"):
        open_data(recipe, tmp_path).training()
