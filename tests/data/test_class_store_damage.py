"""The class store: made as a whole or not at all, and no damage goes unnoticed."""

from __future__ import annotations

import errno
import resource
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from damage import flip
from toy_dataset import FILES, snapshot

from data_pipeline.errors import DamagedData, DataError, MissingData
from data_pipeline.storage import local
from data_pipeline.store.build import build_store
from data_pipeline.store.class_store import open_store
from data_pipeline.store.verify import verify_store


@pytest.mark.faults
@pytest.mark.parametrize("name", FILES)
def test_one_flipped_byte_is_named(toy, tmp_path, name):
    root = build_store("toy", tmp_path).root
    size = (root / name).stat().st_size
    pristine = (root / name).read_bytes()
    for at in {0, 1, size // 3, size // 2, size - 1}:
        flip(root / name, at)
        with pytest.raises(DamagedData, match=name):
            open_store(root)
        with pytest.raises(DamagedData, match=f"{name}.*--replace"):
            build_store("toy", tmp_path)
        (root / name).write_bytes(pristine)
    assert open_store(root).dataset == "toy"


@pytest.mark.faults
@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("name", FILES)
def test_a_lost_tail_is_named(toy, tmp_path, name, verify):
    root = build_store("toy", tmp_path).root
    data = (root / name).read_bytes()
    for tail in (1, 20, len(data)):
        (root / name).write_bytes(data[: len(data) - tail])
        with pytest.raises(DamagedData, match=name):
            open_store(root, verify=verify)
    (root / name).write_bytes(data + b"\0")
    with pytest.raises(DamagedData, match=name):
        open_store(root, verify=verify)
    (root / name).unlink()
    with pytest.raises(MissingData):
        open_store(root, verify=verify)


@pytest.mark.faults
def test_files_of_another_store_do_not_pass(toy, tmp_path):
    mine = build_store("toy", tmp_path / "a").root
    other = build_store("toy", tmp_path / "b", options={"shade": 99}).root
    for name in FILES[:4]:
        shutil.copy(mine / name, tmp_path / "keep")
        shutil.copy(other / name, mine / name)
        with pytest.raises(DamagedData, match=name):
            open_store(mine)
        shutil.copy(tmp_path / "keep", mine / name)


@pytest.mark.faults
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("digest", "0" * 64),
        ("split", "two"),
        ("version", 3),
        ("options", {}),
        ("options", None),
        ("shape", [5, 4, 1]),
        ("shape", [4, 5]),
        ("shape", "large"),
        ("shape", [0, 5, 1]),
        ("shape", [-4, -5, 1]),
        ("pixels", {}),
        ("pixels", None),
        ("manifest", None),
        ("description", None),
    ],
)
def test_a_description_that_does_not_fit_the_files_is_refused(toy, tmp_path, key, value):
    path = build_store("toy", tmp_path).root / "store.json"
    body = local.read_sealed_json(path)
    local.write_sealed_json(path, {**body, key: value})  # sealed anew: its own digest is right
    with pytest.raises(DamagedData, match=r"store\.json"):
        open_store(path.parent)
    local.write_sealed_json(path, {k: v for k, v in body.items() if k != key})
    with pytest.raises(DamagedData, match=r"store\.json"):
        open_store(path.parent)


@pytest.mark.parametrize("column", ["class_name", "image"])
def test_a_manifest_of_long_texts_is_refused_before_it_is_unpacked(toy, tmp_path, column):
    root = build_store("toy", tmp_path).root
    path = root / "manifest.parquet"
    table = pq.read_table(path)
    field = table.schema.field(column)
    texts = pa.array(["x" * 1_000_000] * len(table)).cast(field.type)
    place = table.schema.get_field_index(column)
    pq.write_table(table.set_column(place, field, texts), path, compression="zstd")
    assert path.stat().st_size < 10_000
    reseal(root)
    with pytest.raises(DamagedData, match=r"manifest\.parquet: unpacks to 3\d+ bytes, at most"):
        open_store(root)
    assert "unpacks to" in str(verify_store(root)[0])


def test_a_manifest_of_more_rows_than_images_is_refused(toy, tmp_path):
    root = build_store("toy", tmp_path).root
    path = root / "manifest.parquet"
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table] * 1000), path)
    reseal(root)
    with pytest.raises(
        DamagedData, match=r"36000 rows, at most 36 accepted.*images-val\.u8 is 240"
    ):
        open_store(root)


def test_other_columns_are_refused_before_they_are_read(toy, tmp_path):
    root = build_store("toy", tmp_path).root
    pq.write_table(pa.table({"x": ["x" * 1_000_000]}), root / "manifest.parquet")
    reseal(root)
    with pytest.raises(DamagedData, match=r"manifest\.parquet: its columns are"):
        open_store(root)


def reseal(root):
    """Make ``store.json`` fit the manifest, as somebody who means harm would."""
    body = local.read_sealed_json(root / "store.json")
    body["manifest"] = local.sha256_file(root / "manifest.parquet")
    local.write_sealed_json(root / "store.json", body)


def test_another_format_version_asks_to_prepare_again(toy, tmp_path):
    path = build_store("toy", tmp_path).root / "store.json"
    body = local.read_sealed_json(path)
    for other in ({"format_version": 2}, {"format": "something else"}):
        local.write_sealed_json(path, {**body, **other})
        with pytest.raises(DataError, match=r"[Pp]repare it again.*--replace"):
            open_store(path.parent)


def test_no_store_is_missing(tmp_path):
    with pytest.raises(MissingData, match="metadist data prepare"):
        open_store(tmp_path)


# --- making it is interrupted -----------------------------------------------------------------


def left_over(root):
    return [path.name for path in root.parent.iterdir() if path != root]


@pytest.mark.faults
@pytest.mark.parametrize("limit", [100, 1000])
def test_a_full_disk_leaves_the_last_good_store(toy, tmp_path, limit):
    """The kernel itself refuses to write past ``limit`` bytes of a file: pixels or manifest."""
    toy.per_class = 3 if limit == 1000 else 20
    good = build_store("toy", tmp_path)
    before = snapshot(good.root)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(DataError, match="could not be made"):
            build_store("toy", tmp_path, replace=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert snapshot(good.root) == before
    assert open_store(good.root).digest == good.digest
    assert left_over(good.root) == []


@pytest.mark.faults
def test_no_room_for_the_commit_marker(toy, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(local, "write_sealed_json", full)
        with pytest.raises(DataError, match=r"after 36 images.*No space left"):
            build_store("toy", tmp_path)
    assert list((tmp_path / "toy-one").iterdir()) == []
    assert build_store("toy", tmp_path).dataset == "toy"


@pytest.mark.faults
@pytest.mark.parametrize("stop", [KeyboardInterrupt, DamagedData, OSError])
def test_an_interrupt_leaves_the_last_good_store(toy, tmp_path, monkeypatch, stop):
    good = build_store("toy", tmp_path)
    before = snapshot(good.root)
    images = list(toy.iter_images(shade=3))

    def broken(*args, **options):
        yield from images[:20]
        raise stop("image 20")

    monkeypatch.setattr(toy, "iter_images", broken)
    with pytest.raises(DataError if stop is OSError else stop, match="image 20"):
        build_store("toy", tmp_path, replace=True)
    assert snapshot(good.root) == before
    assert left_over(good.root) == []


def test_another_process_may_finish_first(toy, tmp_path, monkeypatch):
    images = list(toy.iter_images(shade=7))

    def overtaken(*args, **options):
        yield from images
        monkeypatch.setattr(toy, "iter_images", lambda *a, **k: iter(images))
        build_store("toy", tmp_path)

    monkeypatch.setattr(toy, "iter_images", overtaken)
    store = build_store("toy", tmp_path)
    assert open_store(store.root).digest == store.digest
    assert left_over(store.root) == []
