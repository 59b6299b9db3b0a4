"""What systems, NAS and photo tools leave behind is no image and no class, whoever reads."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
from PIL import Image

from data_pipeline.datasets import image_folder
from data_pipeline.datasets._tables import only_parquet
from data_pipeline.formats.images import Preparation
from data_pipeline.formats.labelled_images import read_support
from data_pipeline.store.verify import verify_store

FOLDERS = ["@eaDir", "__MACOSX", ".ipynb_checkpoints", ".AppleDouble", "#recycle", "@Recycle"]
FOLDERS += ["lost+found", "$RECYCLE.BIN", ".hidden", "System Volume Information"]
FILES = [".DS_Store", "Thumbs.db", "Desktop.ini", "._00.png", "Icon\r", "00.png@SynoEAStream"]
KINDS = [f"kind{c}" for c in range(6)]


@pytest.fixture
def littered(tmp_path: Path) -> Path:
    """Six classes of two images, with thumbnails and litter in the folder and in each class."""
    root = tmp_path / "mine"
    for c, kind in enumerate(KINDS):
        (root / kind).mkdir(parents=True)
        for i in range(2):
            Image.new("L", (9, 9), 20 * c + i).save(root / kind / f"{i:02d}.png")
    for place in (root, *(root / kind for kind in KINDS)):
        for name in FOLDERS:
            (place / name / "deeper").mkdir(parents=True)
            shutil.copy(root / "kind0/00.png", place / name / "deeper/00.png")
            shutil.copy(root / "kind0/00.png", place / name / "SYNOFILE_THUMB_M.png")
        for name in FILES:
            (place / name).write_bytes(b"\0\5\x16\7 no image")
    return root


def test_litter_is_no_class_and_is_said_in_one_line(littered, caplog):
    with caplog.at_level(logging.INFO):
        images = list(image_folder.iter_images(littered))
        support = read_support(littered, Preparation((9, 9, 1)))
    assert sorted({image.class_name for image in images}) == KINDS
    assert len(images) == len(support) == 12
    assert sorted(set(support.labels or ())) == KINDS
    said = [line for line in caplog.messages if "passed over" in line]
    assert len(said) == 2
    for line in said:
        assert "#recycle, $RECYCLE.BIN" in line
        assert "more" in line


def test_a_shadow_file_is_no_second_table(tmp_path):
    for name in ("set.parquet", "._set.parquet"):
        (tmp_path / name).write_bytes(b"")
    assert only_parquet(tmp_path) == tmp_path / "set.parquet"


def test_litter_in_a_store_is_no_damage(toy_store, tmp_path):
    root = Path(shutil.copytree(toy_store.root, tmp_path / "store"))
    (root / "@eaDir").mkdir()
    (root / ".DS_Store").write_bytes(b"litter")
    assert verify_store(root) == []
    (root / "stranger.txt").write_bytes(b"no litter")
    assert len(verify_store(root)) == 1


def test_what_may_be_a_class_is_no_litter(tmp_path):
    kinds = ["Recycled", "recycler", "temporary", "icon", "snapshot", "thumb"]
    for c, kind in enumerate(kinds):
        (tmp_path / kind).mkdir()
        for i in range(2):
            Image.new("L", (9, 9), 20 * c + i).save(tmp_path / kind / f"{i}.png")
    assert {image.class_name for image in image_folder.iter_images(tmp_path)} == {*kinds}
