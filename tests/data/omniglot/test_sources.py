"""Omniglot: every accepted source and the download give the same drawings."""

from __future__ import annotations

import io
import logging
import shutil
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import pytest
from omniglot_files import ONE, ZIPS

from data_pipeline.datasets import omniglot
from data_pipeline.datasets._omniglot_classes import ALPHABETS
from data_pipeline.datasets._omniglot_source import read_drawings
from data_pipeline.errors import DamagedData, DataError, MissingData


@pytest.mark.slow
def test_zips_tree_merged_tree_and_parquet_are_the_same(zips, tree, drawings, tmp_path):
    assert read_drawings(zips)[0] == drawings
    assert read_drawings(tree)[0] == drawings
    merged = tmp_path / "merged"
    merged.mkdir()
    for alphabet in ALPHABETS:
        folder = tree / f"images_{alphabet.published}" / alphabet.name
        (merged / alphabet.name).symlink_to(folder, target_is_directory=True)
    (merged / "README.md").write_text("mine")
    assert read_drawings(merged)[0] == drawings


@pytest.mark.slow
def test_a_folder_with_one_parquet_and_one_of_each_is_enough(original, tree, drawings, tmp_path):
    (tmp_path / "one").mkdir()
    shutil.copy(original / "omniglot_png.parquet", tmp_path / "one" / "any_name.parquet")
    assert read_drawings(tmp_path / "one")[0] == drawings
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    shutil.copy(original / ZIPS[1], mixed)
    (mixed / "images_background").symlink_to(tree / "images_background")
    assert read_drawings(mixed)[0] == drawings


def test_a_missing_source_says_what_is_expected(tmp_path, original):
    with pytest.raises(MissingData, match="no such file or folder"):
        read_drawings(tmp_path / "nowhere")
    (tmp_path / "holiday.jpg").write_bytes(b"")
    with pytest.raises(MissingData, match=r"it holds holiday\.jpg"):
        read_drawings(tmp_path)
    shutil.copy(original / ZIPS[0], tmp_path)
    with pytest.raises(MissingData, match="no images_evaluation "):
        read_drawings(tmp_path)
    for name in ("a.parquet", "b.parquet"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match=r"several Parquet files \(a\.parquet, b\.parquet\)"):
        read_drawings(tmp_path)


def test_source_and_options_are_asked_for_by_name():
    with pytest.raises(MissingData, match="needs a source"):
        next(omniglot.iter_images())
    with pytest.raises(DataError, match="no options, got size"):
        next(omniglot.iter_images(Path(), size=28))
    with pytest.raises(DataError, match="no split 'ravi'"):
        next(omniglot.iter_images(Path(), "ravi"))


@pytest.mark.long
@pytest.mark.slow
def test_litter_stops_no_omniglot(drawings, tree, tmp_path, caplog):
    root = Path(shutil.copytree(tree, tmp_path / "tree"))
    alphabet = root / "images_background/Greek"
    (alphabet / "@eaDir/0396_07.png").mkdir(parents=True)
    (alphabet / "@eaDir/0396_07.png/thumb.png").write_bytes(b"thumbnail")
    (root / ONE).with_name("._0396_07.png").write_bytes(b"\0\5\x16\7")
    assert read_drawings(root)[0] == drawings
    zipped = tmp_path / "zips"
    zipped.mkdir()
    for name in ZIPS:
        shutil.make_archive(str(zipped / name[:-4]), "zip", root, name[:-4])
    with zipfile.ZipFile(zipped / ZIPS[0], "a") as file:
        file.writestr(f"__MACOSX/{ONE}", b"\0\5\x16\7")
    with caplog.at_level(logging.INFO):
        next(omniglot.iter_images(zipped))
    assert any("._0396_07.png" in said and "__MACOSX" in said for said in caplog.messages)


# --- download ---------------------------------------------------------------------------------


@pytest.fixture
def web(monkeypatch):
    """What the network answers: file name -> bytes, or an exception."""
    pages: dict[str, bytes | Exception] = {}
    asked: list[str] = []

    def urlopen(url, timeout):
        asked.append(url)
        answer = pages[url.rsplit("/", 1)[1]]
        if isinstance(answer, Exception):
            raise answer
        return io.BytesIO(answer)

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    return pages, asked


@pytest.mark.slow
def test_download_fetches_verifies_and_does_not_repeat(web, original, drawings, tmp_path):
    pages, asked = web
    pages.update({name: (original / name).read_bytes() for name in ZIPS})
    target = tmp_path / "deep" / "omniglot"
    assert omniglot.download(target) == target
    assert read_drawings(target)[0] == drawings
    assert all(url.startswith("https://raw.githubusercontent.com/brendenlake/") for url in asked)
    omniglot.download(target)
    assert len(asked) == 2


@pytest.mark.faults
def test_download_without_a_network_says_what_to_do(web, tmp_path):
    pages, _ = web
    for error in (urllib.error.URLError("unreachable"), TimeoutError(), ConnectionResetError()):
        pages[ZIPS[0]] = error
        with pytest.raises(DataError, match=r"images_background\.zip: could not.*--source PATH"):
            omniglot.download(tmp_path / "omniglot")
        assert list(tmp_path.iterdir()) == []


@pytest.mark.faults
def test_download_of_something_else_leaves_nothing(web, tmp_path):
    pages, _ = web
    pages.update(dict.fromkeys(ZIPS, b"<html>sign in to the hotel's network</html>"))
    with pytest.raises(DamagedData, match="images_background"):
        omniglot.download(tmp_path / "omniglot")
    assert list(tmp_path.iterdir()) == []
