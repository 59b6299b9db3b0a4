"""Links that lead out of a user's folder are followed only on request, and end somewhere."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from small_images import fill

from data_pipeline.datasets import mini_imagenet
from data_pipeline.errors import DataError, MissingData, UnsafeData
from data_pipeline.storage import local
from data_pipeline.store.build import build_store

NAMES = ["train/a", "train/b", "val/c", "val/d", "test/e", "test/f"]


@pytest.fixture
def real(tmp_path: Path) -> Path:
    return fill(tmp_path / "real", NAMES)


@pytest.fixture
def snapshot(real: Path, tmp_path: Path) -> Path:
    """The layout of a hub's cache: every file is a relative link to a blob named by its digest."""
    cache = tmp_path / "hub"
    (cache / "blobs").mkdir(parents=True)
    root = cache / "snapshots/0123"
    for path in sorted(real.rglob("*.png")):
        blob = cache / "blobs" / local.sha256_file(path)
        shutil.copy(path, blob)
        link = root / path.relative_to(real)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return root


def made(tmp_path, source, name, follow=True):
    options = {"size": 9}
    return build_store(
        "image_folder", tmp_path, source=source, name=name, options=options, follow_links=follow
    )


def test_links_are_followed_on_request_with_the_bits_of_the_files(real, snapshot, tmp_path):
    with pytest.raises(UnsafeData, match=r"test/e/0\.png.*leads out.*--follow-links"):
        made(tmp_path, snapshot, "linked", follow=False)
    linked = made(tmp_path, snapshot, "linked")
    plain = made(tmp_path, real, "plain", follow=False)
    assert linked.digest == plain.digest
    assert linked.description == {**plain.description, "links": "followed"}
    # The same images, found otherwise.
    assert made(tmp_path, real, "linked", follow=False).digest == linked.digest
    assert made(tmp_path, snapshot, "plain").digest == linked.digest
    # Asking for it once does not ask for it for ever.
    with pytest.raises(UnsafeData, match="leads out"):
        made(tmp_path, snapshot, "linked", follow=False)


def test_a_blob_that_was_exchanged_is_noticed(snapshot, tmp_path):
    made(tmp_path, snapshot, "linked")
    one, other = sorted((snapshot.parents[1] / "blobs").iterdir())[:2]
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    with pytest.raises(DataError, match="other contents of the source"):
        made(tmp_path, snapshot, "linked")


def test_folders_that_are_links_are_followed_and_end(real, tmp_path):
    root = tmp_path / "linked"
    root.mkdir()
    for part in ("train", "val", "test"):
        (root / part).symlink_to(real / part)
    with pytest.raises(UnsafeData, match=r"test: a link to a folder.*--follow-links"):
        made(tmp_path, root, "store", follow=False)
    plain = made(tmp_path, real, "plain")
    assert made(tmp_path, root, "store").digest == plain.digest


@pytest.mark.parametrize("target", ["real", "real/train", "real/train/a", ".", "/", "real/test/z"])
def test_links_that_go_round_or_double_a_class_are_refused(real, tmp_path, target):
    (real / "test/z").symlink_to(tmp_path / target)
    with pytest.raises(DataError, match=r": leads to .* read already as|z: a link to") as caught:
        made(tmp_path, real, "store")
    assert "test/z" in str(caught.value)


def test_a_link_to_nothing_says_so(real, tmp_path):
    (real / "train/a/9.png").symlink_to("../../../blobs/gone")
    for follow in (False, True):
        with pytest.raises(
            MissingData, match=r"9\.png: a link to .*blobs/gone, which is not there"
        ):
            made(tmp_path, real, "store", follow)


def test_a_list_of_links_is_followed_too(tmp_path):
    (tmp_path / "out.jpg").write_bytes(b"image")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/n01.jpg").symlink_to(tmp_path / "out.jpg")
    entry = mini_imagenet._Entry("train", "n01", "n01.jpg")
    with pytest.raises(UnsafeData, match="--follow-links"):
        mini_imagenet._find_image(tmp_path / "in", entry, "line 1")
    with local.links_followed():
        assert mini_imagenet._find_image(tmp_path / "in", entry, "line 1").read_bytes() == b"image"
        with pytest.raises(UnsafeData, match="a path inside"):
            mini_imagenet._find_image(tmp_path / "in", entry._replace(filename="../out.jpg"), "1")
