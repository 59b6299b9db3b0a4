"""Embeddings as Parquet files, of ours and of others, and how far they tell classes apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipeline.episodes.images import ImageEpisodes
from data_pipeline.episodes.neighbours import nearest_neighbour_scores
from data_pipeline.episodes.types import EpisodeSpec
from data_pipeline.errors import DamagedData, DataError, MissingData
from data_pipeline.partitions.embedding import keys, pixels, read_embedding, write_embedding
from data_pipeline.store.class_store import ClassStore


def test_keys_are_part_class_and_image(toy_store: ClassStore):
    found = keys(toy_store, "val")
    assert len(found) == len(toy_store.parts["val"].images)
    assert found[:2] == ["val/class-0/00.png", "val/class-0/01.png"]
    assert found[-1] == "val/class-3/11.png"


def test_pixels_are_an_embedding(toy_store: ClassStore):
    found = pixels(toy_store, "train")
    images = toy_store.parts["train"].images
    assert found.dtype == np.float32
    assert found.shape == (len(images), 36)
    assert np.array_equal((found * 255).round().astype(np.uint8).reshape(images.shape), images)


def test_what_was_written_is_read(toy_store: ClassStore, tmp_path: Path):
    names = [*keys(toy_store, "test"), *keys(toy_store, "train")]
    vectors = np.random.default_rng(0).normal(size=(len(names), 12)).astype(np.float32)
    for name in ("a", "b"):
        write_embedding(tmp_path / name, names, vectors)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    found = read_embedding(tmp_path / "a", toy_store, ["train", "test"])
    tests = len(toy_store.parts["test"].images)
    assert np.array_equal(found["test"], vectors[:tests])
    assert np.array_equal(found["train"], vectors[tests:])


def table(store: ClassStore) -> dict[str, object]:
    """Columns as somebody else writes them: in another order, whole numbers too, further images."""
    names = [*keys(store, "val")[::-1], "val/none/none"]
    row = np.arange(len(names))
    return {"size": row, "key": names, "weight": row / 2}


def test_files_of_others_are_read(toy_store: ClassStore, tmp_path: Path):
    path = tmp_path / "other.parquet"
    pq.write_table(pa.table(table(toy_store)), path)
    found = read_embedding(path, toy_store, ["val"])["val"]
    count = len(toy_store.parts["val"].images)
    assert np.array_equal(found, np.stack([np.arange(count)[::-1], np.arange(count)[::-1] / 2], 1))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"key": None}, "has no column 'key'"),
        ({"size": None, "weight": None}, "has no column beside it"),
        ({"name": "x"}, "column 'name' of type string"),
        ({"key": "x"}, "keys are there twice"),
        ({"weight": np.nan}, "are not finite, as that of 'val/class-0/00.png'"),
    ],
    ids=str,
)
def test_files_that_are_none_are_refused(change, words: str, toy_store: ClassStore, tmp_path: Path):
    columns = table(toy_store)
    rows = len(columns["key"])  # type: ignore[arg-type]
    for name, value in change.items():
        if value is None:
            del columns[name]
        else:
            columns[name] = [value] * rows
    pq.write_table(pa.table(columns), tmp_path / "wrong.parquet")
    with pytest.raises(DataError, match=words):
        read_embedding(tmp_path / "wrong.parquet", toy_store, ["val"])


def test_images_without_a_vector_are_named(toy_store: ClassStore, tmp_path: Path):
    path = tmp_path / "some.parquet"
    pq.write_table(pa.table(table(toy_store)), path)
    with pytest.raises(DataError, match=r"no vector for 96 of 96 train images .*class-0/00\.png"):
        read_embedding(path, toy_store, ["train"])
    with pytest.raises(MissingData, match="no such file"):
        read_embedding(tmp_path / "none.parquet", toy_store, ["train"])
    path.write_bytes(b"PAR1" + bytes(40))
    with pytest.raises(DamagedData, match="not a readable Parquet file"):
        read_embedding(path, toy_store, ["train"])


def test_columns_of_one_name_are_refused(toy_store: ClassStore, tmp_path: Path):
    path = tmp_path / "twice.parquet"
    pq.write_table(pa.table([["a"], [1.0], [2.0]], names=["key", "x", "x"]), path)
    with pytest.raises(DamagedData, match="same name"):
        read_embedding(path, toy_store, ["train"])


# --- neighbours -----------------------------------------------------------------------------------


def test_neighbours_by_hand(toy_store: ClassStore):
    """Vectors that say the class find all of them; those that say nothing, the first support."""
    source = ImageEpisodes(toy_store, "test", EpisodeSpec(3, 2, 4), 0)
    rows = source.rows(range(9)).columns
    classes = np.repeat(np.eye(4, dtype=np.float32), 12, axis=0)
    assert nearest_neighbour_scores(source, classes, 9).tolist() == [1.0] * 9
    nothing = np.zeros((48, 2), np.float32)
    expected = [(q == s[0]).mean() for s, q in zip(rows["support_y"], rows["query_y"], strict=True)]
    assert nearest_neighbour_scores(source, nothing, 9).tolist() == expected
    noise = np.random.default_rng(0).normal(size=(48, 5)).astype(np.float32)
    found = nearest_neighbour_scores(source, noise, 9)
    for t in range(9):
        support, query = (noise[rows[f"{name}_rows"][t]] for name in ("support", "query"))
        nearest = [int(np.linalg.norm(support - q, axis=1).argmin()) for q in query]
        assert found[t] == (rows["support_y"][t][nearest] == rows["query_y"][t]).mean()
