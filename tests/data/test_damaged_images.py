"""Images that cannot be decoded: all are named, or the rest is taken and says what is missing."""

from __future__ import annotations

import gc
import io
import weakref
from pathlib import Path

import numpy as np
import pytest
from image_bytes import chunk, png
from PIL import Image

from data_pipeline.errors import DamagedData, DataError, MissingData, UnsafeData
from data_pipeline.formats.damaged import SKIPPED, Damaged
from data_pipeline.formats.images import Preparation
from data_pipeline.formats.labelled_images import read_queries, read_support
from data_pipeline.store.build import build_store
from data_pipeline.store.writer import StoreWriter

CLASSES, IMAGES = 8, 4
HUGE = png(np.zeros((1, 1, 1)), 8, 0).replace(bytes(3) + b"\1", b"\0\0\xea\x60", 2)
NOTES = b"notes about the photographs"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    noise = np.random.Generator(np.random.Philox(2))
    for number in range(CLASSES):
        place = tmp_path / "mine" / f"class{number}"
        place.mkdir(parents=True)
        for image in range(IMAGES):
            pixels = noise.integers(0, 256, (9, 9, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / f"{image}.png")
    return tmp_path / "mine"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def build(folder: Path, name: str = "", **options):
    data = folder.parent / "data"
    return build_store("image_folder", data, source=folder, name=name, **options)


def test_all_damaged_images_are_named_at_once(folder):
    cut(folder / "class0/1.png")
    (folder / "class5/2.png").write_bytes(NOTES)
    (folder / "class7/3.png").write_bytes(HUGE)
    with pytest.raises(DamagedData) as caught:
        build(folder)
    said = str(caught.value)
    assert "3 images cannot be used" in said
    for words in ("class0/1.png: damaged PNG", "class5/2.png: not an image", "class7/3.png: 60000"):
        assert words in said
    assert said.endswith("Replace or remove them, or go on without with `--skip-damaged`")
    assert "\n" not in said
    for path in sorted(folder.glob("class[1-4]/*")):
        path.write_bytes(NOTES)
    with pytest.raises(DamagedData, match=r"^19 images.* and 11 more\. Replace"):
        build(folder)
    assert list((folder.parent / "data/image_folder-by_class").iterdir()) == []


def test_what_is_only_too_large_is_called_unsafe(folder):
    (folder / "class7/3.png").write_bytes(HUGE)
    with pytest.raises(UnsafeData, match=r"^\S+class7/3.png: 60000 x 60000"):
        build(folder)


def test_a_store_without_its_damaged_images_is_that_of_the_rest(folder):
    whole = build(folder, "whole")
    cut(folder / "class0/1.png")
    (folder / "class5/notes.txt").write_bytes(NOTES)
    made = build(folder, "skipped", skip_damaged=True)
    assert made.description[SKIPPED].startswith(
        "2 damaged images: class0/1.png, class5/notes.txt (sha256 of names "
    )
    assert build(folder, "skipped", skip_damaged=True).digest == made.digest
    with pytest.raises(DataError, match=r"made with `--skip-damaged`, without 2 damaged images"):
        build(folder, "skipped")
    for name in ("class0/1.png", "class5/notes.txt"):
        (folder / name).unlink()
    rest = build(folder, "rest")
    assert made.digest == rest.digest != whole.digest
    assert SKIPPED not in rest.description
    assert build(folder, "flag", skip_damaged=True).description == rest.description


@pytest.mark.parametrize("broken", [["class3"], [f"class{n}" for n in range(CLASSES)]])
def test_a_class_that_is_left_with_too_few_images_is_named(folder, broken):
    for name in broken:
        for image in range(IMAGES - 1):
            cut(folder / name / f"{image}.png")
    with pytest.raises(DataError, match=rf"fewer than 2: .*class3 \(1 of {IMAGES}\)") as caught:
        build(folder, skip_damaged=True)
    assert f"{len(broken)} classes" in str(caught.value)
    build(folder, skip_damaged=True, options={"min_images": 1})


def test_damage_is_skipped_only_where_images_are_anybodys(folder):
    with pytest.raises(DataError, match=r"omniglot does not go on without damaged images"):
        build_store("omniglot", folder.parent, source=folder, skip_damaged=True)


def test_what_is_no_damage_is_not_skipped(folder):
    (folder / "class1/link.png").symlink_to(folder.parent)
    with pytest.raises(UnsafeData, match="a link to a folder"):
        build(folder, skip_damaged=True)
    with pytest.raises(MissingData):
        build(folder.parent / "gone", skip_damaged=True)


def test_all_damaged_images_of_a_user_are_named_or_skipped(folder, caplog):
    prepare = Preparation((8, 8, 3))
    before = read_support(folder, prepare)
    for name in ("class0/0", "class0/3", "class4/1"):
        cut(folder / f"{name}.png")
    for read, place in ((read_queries, folder / "class0"), (read_support, folder)):
        with pytest.raises(DamagedData, match=r"[23] images .*0\.png: .*3\.png: .*--skip-damaged"):
            read(place, prepare)
    after = read_support(folder, prepare, skip_damaged=True)
    rows = [row for row, name in enumerate(before.files) if name in after.files]
    assert after.passed_over == ("class0/0.png", "class0/3.png", "class4/1.png")
    assert len(rows) == CLASSES * IMAGES - 3 == len(after)
    assert np.array_equal(after.pixels, before.pixels[rows])
    assert before.labels is not None
    assert after.labels == tuple(before.labels[row] for row in rows)
    assert "went on without 3 damaged images: class0/0.png" in caplog.text
    for image in range(IMAGES):
        (folder / f"class6/{image}.png").write_bytes(b"none")
    with pytest.raises(DataError, match="no image is left of class6"):
        read_support(folder, prepare, skip_damaged=True)
    assert len(read_queries(folder / "class6", prepare, skip_damaged=True)) == 0


def test_valid_images_with_odd_metadata_stop_no_folder(folder):
    plain = build(folder, "plain").digest
    for path in folder.rglob("*.png"):
        pixels = np.asarray(Image.open(io.BytesIO(path.read_bytes())))
        odd = chunk(b"iCCP", b""), chunk(b"tEXt", b"x", flaw=1), chunk(b"eXIf", b"II")
        path.write_bytes(png(pixels, 8, 2, *odd))
    assert build(folder, "odd").digest == plain


def test_two_that_skip_at_once_make_one_store(folder, monkeypatch):
    """The other one finished while the images were read."""
    cut(folder / "class0/1.png")
    write = StoreWriter.write

    def late(self, directory, images):
        monkeypatch.setattr(StoreWriter, "write", write)
        build(folder, skip_damaged=True)
        return write(self, directory, images)

    monkeypatch.setattr(StoreWriter, "write", late)
    assert SKIPPED in build(folder, skip_damaged=True).description


def test_damaged_images_are_not_kept_in_memory():
    kept = []

    def read():
        data = np.zeros(8)  # as the bytes of a file: what an error's traceback holds on to
        kept.append(weakref.ref(data))
        try:
            raise OSError("cut off")
        except OSError as error:
            raise DamagedData("cut off") from error

    damaged = Damaged(skip=True)
    assert damaged.read("one", read) is None
    gc.collect()
    assert [data() for data in kept] == [None]
    assert "one" in damaged.described()[SKIPPED]
