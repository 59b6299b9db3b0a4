"""``metadist data prepare``: images become a class store, whatever is wrong is said."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from data_command import CLASSES, IMAGES, SIZE, done, draw_images, refused, run

from data_pipeline import datasets
from metadist import prepare


def test_prepare_says_what_it_made(prepare):
    said = prepare()
    assert str(Path.cwd() / "data/mine/store") in said
    assert "is prepared" in said
    assert f"{CLASSES * IMAGES} images of 12x12 RGB: train 10 classes (60 images)" in said
    assert re.search(r"digest: [0-9a-f]{64}\n", said)
    assert f"options: size={SIZE}\n" in said
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
    for wrong in (("--split", "by_colour"), ("--name", "a/b")):
        refused(run("prepare", "image_folder", "--download", *wrong), wrong[1])
    assert len(fetched) == 1


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


def test_images_that_changed_under_their_names_are_told(tmp_path):
    folder = draw_images(tmp_path / "raw")
    command = ["prepare", "image_folder", "--source", str(folder), "--option", "size=12"]
    done(*command)
    a, b = folder / "class00/0.png", folder / "class01/0.png"
    a.write_bytes(b.read_bytes())
    refused(run(*command), "other contents of the source", "--name", "--replace")
    assert "is prepared" in done(*command, "--replace")
    assert "was there already" in done(*command)
    refused(run(*command, "--option", "class_names=paths"), "class_names", "--replace")


def test_links_are_followed_where_it_is_said(images, tmp_path):
    linked = tmp_path / "linked"
    for path in images.rglob("*.png"):
        (linked / path.parent.name).mkdir(parents=True, exist_ok=True)
        (linked / path.parent.name / path.name).symlink_to(path)
    command = ["prepare", "image_folder", "--source", str(linked)]
    refused(run(*command), "leads out", "--follow-links")
    assert "links: followed" in done(*command, "--follow-links")


def test_a_source_that_is_of_no_use_is_told_even_if_a_store_is_there(embedded):
    done("prepare", "strokes")
    refused(run("prepare", "strokes", "--source", "."), "takes no source")


def test_a_file_that_is_no_image_is_named(tmp_path):
    folder = draw_images(tmp_path / "raw")
    (folder / "class03" / "3.png").write_bytes(b"\x89PNG but not really")
    refused(run("prepare", "image_folder", "--source", str(folder)), "class03/3.png")
    assert not Path("data/image_folder-by_class/store").exists()


def test_damaged_images_are_skipped_on_request(tmp_path):
    folder = draw_images(tmp_path / "raw")
    for name in ("class03/3.png", "class04/1.png"):
        (folder / name).write_bytes(b"no image")
    asked = ["prepare", "image_folder", "--source", str(folder)]
    refused(run(*asked), "2 images", "class03/3.png", "class04/1.png", "--skip-damaged")
    said = done(*asked, "--skip-damaged")
    assert f"{CLASSES * IMAGES - 2} images" in said
    assert "skipped: 2 damaged images: class03/3.png, class04/1.png (sha256" in said
    store = prepare("image_folder", source=folder, data_dir="data", name="other", skip_damaged=True)
    assert store.digest in said
    refused(run("prepare", "strokes", "--skip-damaged"), "strokes", "--skip-damaged")
