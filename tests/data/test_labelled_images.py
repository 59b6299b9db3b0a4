"""A user's own folders: what is read, what is passed over with a word, and what is refused."""

from __future__ import annotations

import io
import logging
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_pipeline.datasets import PARTS, preparation
from data_pipeline.errors import DamagedData, DataError, MissingData, UnsafeData
from data_pipeline.formats.images import Preparation
from data_pipeline.formats.labelled_images import read_queries, read_support
from data_pipeline.store.build import build_store
from data_pipeline.store.class_store import ClassStore

GRAY = Preparation((8, 8, 1))


def picture(path: Path, shade: int = 99, **options: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), shade).save(path, **options)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes with different numbers of images."""
    for name in ("owl/2.png", "owl/1.png", "cat/1.png"):
        picture(tmp_path / "support" / name)
    return tmp_path / "support"


def bomb() -> bytes:
    """A small PNG that claims 60,000 x 60,000 pixels."""
    head = struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + head
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk
    return start + struct.pack(">I", zlib.crc32(chunk)) + b"\0\0\0\0IEND\xaeB`\x82"


def test_support_is_read_by_label_and_name(folder):
    read = read_support(folder, GRAY)
    assert read.files == ("cat/1.png", "owl/1.png", "owl/2.png")
    assert read.labels == ("cat", "owl", "owl")
    assert read.pixels.shape == (3, 8, 8, 1)
    assert (read.pixels == 99).all()
    assert read.passed_over == ()


def test_queries_side_by_side_have_no_labels(tmp_path):
    picture(tmp_path / "b.png")
    picture(tmp_path / "a.png")
    read = read_queries(tmp_path, GRAY)
    assert read.files == ("a.png", "b.png")
    assert read.labels is None


def test_queries_in_folders_have_labels(folder):
    assert read_queries(folder, GRAY).labels == ("cat", "owl", "owl")


def test_what_is_no_image_is_passed_over_with_a_warning(folder, caplog):
    (folder / "README.txt").write_text("mine")
    (folder / "owl" / "notes").write_text("")
    (folder / "owl" / ".hidden.png").write_text("hidden")
    (folder / "Thumbs.db").write_text("litter")
    picture(folder / "owl" / "3.png").rename(folder / "owl" / "no-ending")
    with caplog.at_level(logging.WARNING):
        read = read_support(folder, GRAY)
    assert read.passed_over == ("README.txt", "owl/notes")
    assert "owl/no-ending" in read.files
    assert "README.txt, owl/notes" in caplog.text
    assert "hidden" not in caplog.text


@pytest.mark.parametrize(
    ("name", "content", "error", "words"),
    [
        ("cut.png", None, DamagedData, "damaged PNG"),
        ("empty.jpg", b"", DamagedData, "not an image"),
        ("text.PNG", b"hello", DamagedData, "not an image"),
        ("bomb.png", bomb(), UnsafeData, "60000 x 60000"),
        ("bomb", bomb(), UnsafeData, "60000 x 60000"),
    ],
)
def test_damaged_and_huge_images_are_named(folder, name, content, error, words):
    if content is None:
        buffer = io.BytesIO()
        Image.effect_noise((64, 64), 50).save(buffer, "PNG")
        content = buffer.getvalue()[:-40]
    (folder / "owl" / name).write_bytes(content)
    with pytest.raises(error, match=words) as caught:
        read_support(folder, GRAY)
    assert f"owl/{name}" in str(caught.value)


def test_folders_that_are_not_what_is_needed(folder, tmp_path):
    with pytest.raises(MissingData, match="no such folder"):
        read_support(tmp_path / "gone", GRAY)
    (tmp_path / "empty").mkdir()
    for read in (read_support, read_queries):
        with pytest.raises(DataError, match="holds no image"):
            read(tmp_path / "empty", GRAY)
    (folder / "dog").mkdir()
    with pytest.raises(DataError, match="dog: holds no image"):
        read_support(folder, GRAY)
    (folder / "dog" / "film.mp4").write_text("film")
    with pytest.raises(DataError, match="dog: holds no image"):
        read_support(folder, GRAY)
    picture(folder / "loose.png")
    with pytest.raises(DataError, match="lies in no class"):
        read_support(folder, GRAY)
    with pytest.raises(DataError, match="beside folders of images"):
        read_queries(folder, GRAY)


def test_links(folder, tmp_path):
    (folder / "owl" / "again.png").symlink_to(folder / "owl" / "1.png")
    assert "owl/again.png" in read_support(folder, GRAY).files
    (folder / "owl" / "out.png").symlink_to(picture(tmp_path / "elsewhere.png"))
    with pytest.raises(UnsafeData, match="leads out"):
        read_support(folder, GRAY)
    (folder / "owl" / "out.png").unlink()
    (folder / "eel").symlink_to(folder / "owl")
    with pytest.raises(UnsafeData, match="a link to a folder"):
        read_support(folder, GRAY)


def test_a_pipe_is_refused_and_not_waited_for(folder):
    os.mkfifo(folder / "owl" / "pipe")
    with pytest.raises(UnsafeData, match="neither a file nor a folder"):
        read_support(folder, GRAY)


def test_every_kind_of_png_becomes_gray_of_the_right_size(tmp_path):
    ink = Image.new("RGBA", (16, 16), (255, 255, 255, 0))
    ink.save(tmp_path / "transparent.png")
    Image.fromarray(np.full((16, 16), 0x40FF, dtype=np.uint16)).save(tmp_path / "16-bit.png")
    Image.new("P", (16, 16), 1).save(tmp_path / "palette.png")
    read = read_queries(tmp_path, GRAY)
    values = dict(zip(read.files, read.pixels.reshape(3, -1)[:, 0].tolist(), strict=True))
    assert values["16-bit.png"] == 0x40
    assert values["transparent.png"] == 255
    assert read.pixels.shape == (3, 8, 8, 1)


def test_a_users_png_of_a_stores_image_has_its_pixels(tmp_path):
    """Of datasets that keep light and dark as they are: nothing is resampled or turned."""
    noise = np.random.default_rng(0)
    for c in range(6):
        for i in range(2):
            path = tmp_path / "photos" / f"class{c}" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(noise.integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(path)
    store = build_store(
        "image_folder", tmp_path / "data", source=tmp_path / "photos", options={"size": 16}
    )
    _same_as_the_store(store, tmp_path / "export")
    # The very files that the store was made from have the same pixels, too.
    prepare = preparation(store.dataset, store.shape, store.options)
    part = store.parts["train"]
    name = part.class_names[0]
    read = read_queries(tmp_path / "photos" / name, prepare)
    np.testing.assert_array_equal(read.pixels, part.images[part.offsets[0] : part.offsets[1]])


def _same_as_the_store(store: ClassStore, folder: Path) -> None:
    prepare = preparation(store.dataset, store.shape, store.options)
    for part in PARTS:
        images = store.parts[part].images[:4]
        for row, pixels in enumerate(images):
            path = folder / part / f"{row}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(path)
        np.testing.assert_array_equal(read_queries(folder / part, prepare).pixels, images)


def test_ink_on_paper_is_turned_into_light_on_dark_for_omniglot(tmp_path):
    prepare = preparation("omniglot", (28, 28, 1), {})
    drawing = Image.new("1", (105, 105), 1)
    drawing.paste(0, (40, 0, 60, 105))
    drawing.save(tmp_path / "drawing.png")
    pixels = read_queries(tmp_path, prepare).pixels[0, :, :, 0]
    assert pixels[14, 13] == 255
    assert pixels[14, 2] == 0


def test_labels_that_look_alike_are_the_same(tmp_path):
    composed, decomposed = "\u00e9t\u00e9", "e\u0301te\u0301"
    picture(tmp_path / "support" / composed / "1.png")
    picture(tmp_path / "query" / decomposed / "1.png")
    given, asked = (
        read_support(tmp_path / "support", GRAY),
        read_queries(tmp_path / "query", GRAY),
    )
    assert given.labels == asked.labels == (composed,)
    picture(tmp_path / "query" / composed / "2.png")
    for read in (read_support, read_queries):
        with pytest.raises(DataError, match=r"two folders are called '\u00e9t\u00e9'.*into one"):
            read(tmp_path / "query", GRAY)
