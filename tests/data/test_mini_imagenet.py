"""miniImageNet: the published classes in the published parts, or a refusal that names the cause."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tiers import one_in

from data_pipeline.datasets import PARTS, mini_imagenet
from data_pipeline.datasets._mini_imagenet_classes import CLASSES, LIST_SHA256
from data_pipeline.errors import DamagedData, DataError, MissingData, UnsafeData
from data_pipeline.store.build import build_store
from data_pipeline.store.class_store import open_store

PER_CLASS = 2


def jpeg(seed: int, size: tuple[int, int] = (84, 84)) -> bytes:
    pixels = np.random.Generator(np.random.Philox(seed)).integers(0, 256, 3, dtype=np.uint8)
    buffer = io.BytesIO()
    Image.new("RGB", size, tuple(pixels.tolist())).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def rows():
    """Two images of one colour per class: (part, wnid, file name, JPEG)."""
    classes = [(part, wnid) for part in PARTS for wnid in CLASSES[part]]
    return [
        (part, wnid, f"{wnid}{i:08d}.jpg", jpeg(7 * c + i))
        for c, (part, wnid) in enumerate(classes)
        for i in range(1, PER_CLASS + 1)
    ]


def write_lists(root, rows):
    for part in PARTS:
        with (root / f"{part}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["filename", "label"])
            writer.writerows((name, wnid) for p, wnid, name, _ in rows if p == part)


def write_folder(root, rows, place="images"):
    write_lists(root, rows)
    for part, wnid, name, data in rows:
        path = root / place.format(part=part, wnid=wnid) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def write_parquet(path, rows, **changes):
    columns = {
        "wnid": [r[1] for r in rows],
        "filename": [r[2] for r in rows],
        "jpeg": [r[3] for r in rows],
        "sha256": [hashlib.sha256(r[3]).digest() for r in rows],
        "split": [r[0] for r in rows],
    } | changes
    pq.write_table(pa.table(columns), path)
    return path


@pytest.fixture
def folder(rows, tmp_path):
    root = tmp_path / "mini"
    root.mkdir()
    return write_folder(root, rows)


def consume(source):
    return list(mini_imagenet.iter_images(source))


# --- what is in it ----------------------------------------------------------------------------


def test_classes_are_the_published_ones(data_root):
    lists = json.loads((data_root / "splits" / "miniimagenet_ravi_classes.json").read_text())
    assert {part: tuple(sorted(lists[part])) for part in PARTS} == CLASSES
    assert [len(CLASSES[part]) for part in PARTS] == [64, 16, 20]


@pytest.mark.slow
def test_every_place_of_the_images_gives_the_same(rows, tmp_path):
    sources = {}
    places = ("images", "images/{wnid}", "{wnid}", "{part}/{wnid}", ".")
    for i, place in enumerate(places):
        root = tmp_path / f"folder{i}"
        root.mkdir()
        sources[f"place{i}"] = write_folder(root, rows, place)
    sources["file"] = write_parquet(tmp_path / "any.parquet", rows)
    sources["order"] = write_parquet(tmp_path / "other.parquet", rows[::-1])
    digests = {
        build_store("mini_imagenet", tmp_path / "data", source=source, name=name).digest
        for name, source in sources.items()
    }
    assert len(digests) == 1


def test_a_subset_says_that_it_is_not_the_benchmark(folder, tmp_path):
    store = build_store("mini_imagenet", tmp_path / "data", source=folder)
    assert store.shape == (84, 84, 3)
    assert store.parts["val"].class_names == CLASSES["val"]
    said = "no: a subset of 2 images per class (of 600): not the benchmark"
    assert open_store(store.root).description["complete"] == said


def test_images_of_84_are_taken_as_they_are_and_others_stretched(rows, tmp_path):
    pixels = np.random.Generator(np.random.Philox(3)).integers(0, 256, (84, 84, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    small, wide = buffer.getvalue(), jpeg(5, (300, 100))
    changed = [(*rows[0][:3], small), (*rows[1][:3], wide), *rows[2:]]
    images = consume(write_parquet(tmp_path / "p.parquet", changed))
    decoded = np.asarray(Image.open(io.BytesIO(small)))
    assert np.array_equal(images[0].pixels, decoded)
    assert images[1].pixels.shape == (84, 84, 3)
    assert len(np.unique(images[1].pixels.reshape(-1, 3), axis=0)) == 1
    assert [i.name for i in images[:2]] == [r[2] for r in rows[:2]]


@pytest.mark.slow
def test_the_real_subset(data_root, tmp_path):
    source = data_root / "miniimagenet"
    store = build_store("mini_imagenet", tmp_path, source=source)
    assert {p: s.images.shape[0] for p, s in store.parts.items()} == {
        "train": 3840,
        "val": 960,
        "test": 1200,
    }
    assert store.description["complete"].startswith("no: a subset of 60 images per class")
    row = pq.read_table(source / "mini84_100x60_subset.parquet").slice(0, 1).to_pylist()[0]
    decoded = np.asarray(Image.open(io.BytesIO(row["jpeg"])))
    assert np.array_equal(store.parts["train"].images[0], decoded)


@pytest.mark.long
@pytest.mark.slow
def test_the_complete_lists_are_recognised(data_root, tmp_path, monkeypatch):
    for part in PARTS:
        shutil.copy(data_root / "splits" / "miniimagenet_ravi" / f"{part}.csv", tmp_path)
    with pytest.raises(MissingData, match=r"train\.csv, line 2: 'n0153282900000005\.jpg'"):
        mini_imagenet.describe(tmp_path)
    # The photographs themselves cannot be had here: one file stands for all 60,000.
    (tmp_path / "one.jpg").write_bytes(jpeg(0))
    monkeypatch.setattr(mini_imagenet, "_find_image", lambda *a: tmp_path / "one.jpg")
    one = hashlib.sha256(jpeg(0)).digest()
    digests = {}
    for part in PARTS:
        lines = (tmp_path / f"{part}.csv").read_text().split()[1:]
        names = sorted(line.split(",")[0].encode() for line in lines)
        digests[part] = hashlib.sha256(b"".join(name + b"\0" + one for name in names)).hexdigest()
    monkeypatch.setattr(mini_imagenet, "KNOWN_COPY_SHA256", digests)
    benchmark = "yes: the 60000 images of the benchmark by file name"
    assert mini_imagenet.describe(tmp_path) == {
        "complete": f"{benchmark}, byte for byte a known copy",
        **{f"source_sha256_{part}": digest for part, digest in digests.items()},
    }
    monkeypatch.setitem(digests, "val", "of another copy")
    assert mini_imagenet.describe(tmp_path)["complete"] == benchmark
    text = (tmp_path / "test.csv").read_text().splitlines(keepends=True)
    (tmp_path / "test.csv").write_text("".join(text[:-1]))
    said = mini_imagenet.describe(tmp_path)["complete"]
    assert said == "no: a subset of 599 to 600 images per class (of 600): not the benchmark"
    assert len(set(LIST_SHA256.values())) == 3


@pytest.mark.parametrize(
    "wording",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace(",", ", ").replace("\n", "\r\n"),
        lambda text: text.replace("filename,label", " Filename ,LABEL"),
        lambda text: text.replace(",", ";"),
        lambda text: text.replace(",", "\t"),
        lambda text: text + "\n  \n,\n\n",
        lambda text: "\n" + text.replace("\n", "\n\n"),
        lambda text: "".join(f'"{a}", "{b}"\n' for a, b in map(fields, text.splitlines())),
        lambda text: (
            "".join(f'0;{b};"x;y,z";{a}\n' for a, b in map(fields, text.splitlines()))
            .replace("0;label", "number;label", 1)
            .replace('"x;y,z"', "note", 1)
        ),
        lambda text: text.replace("\n", "\r"),
    ],
    ids=[
        "byte order mark",
        "blanks and CRLF",
        "header",
        "semicolons",
        "tabs",
        "blank rows at the end",
        "blank rows between",
        "quotes",
        "more columns",
        "CR",
    ],
)
@pytest.mark.parametrize("encoding", one_in(2, ["utf-8", "utf-16"]))
def test_lists_are_read_as_editors_and_spreadsheets_write_them(folder, wording, encoding):
    plain = mini_imagenet._read_listing(folder)
    for part in PARTS:
        text = (folder / f"{part}.csv").read_text()
        (folder / f"{part}.csv").write_bytes(wording(text).encode(encoding))
    assert list(mini_imagenet._read_listing(folder)) == list(plain)


def fields(line: str) -> list[str]:
    return line.split(",")


@pytest.mark.faults
def test_a_line_of_a_list_has_its_number_in_the_file(folder):
    text = (folder / "val.csv").read_text().replace("\n", "\n\n")
    (folder / "val.csv").write_text(text + "lost.jpg,n99999999\n")
    line = text.count("\n") + 1
    with pytest.raises(DataError, match=rf"val\.csv, line {line}: 'n99999999'"):
        consume(folder)


# --- wrong sources ----------------------------------------------------------------------------


def test_a_missing_source_says_what_is_expected(tmp_path, folder):
    with pytest.raises(MissingData, match=r"train\.csv, val\.csv, test\.csv"):
        mini_imagenet.describe(None)
    with pytest.raises(MissingData, match="no such file"):
        consume(tmp_path / "nowhere")
    (tmp_path / "x").mkdir()
    with pytest.raises(MissingData, match="it holds nothing"):
        consume(tmp_path / "x")
    (folder / "val.csv").unlink()
    with pytest.raises(MissingData, match=r"no val\.csv and no Parquet"):
        consume(folder)
    with pytest.raises(DataError, match="no options"):
        next(mini_imagenet.iter_images(folder, "ravi", size=1))
    with pytest.raises(DataError, match="no split"):
        next(mini_imagenet.iter_images(folder, "vinyals"))


@pytest.mark.faults
def test_exchanged_lists_are_named(folder):
    (folder / "val.csv").rename(folder / "keep")
    (folder / "test.csv").rename(folder / "val.csv")
    (folder / "keep").rename(folder / "test.csv")
    with pytest.raises(DataError, match=r"val\.csv, line 2: class n01930112 belongs to 'test'"):
        consume(folder)


@pytest.mark.faults
def test_a_class_in_the_wrong_part_is_named(folder, rows):
    moved = [("train" if wnid == "n01855672" else part, wnid, *r) for part, wnid, *r in rows]
    write_lists(folder, moved)
    with pytest.raises(DataError, match=r"train\.csv, line 130: class n01855672 belongs to 'val'"):
        consume(folder)


@pytest.mark.faults
def test_unknown_missing_and_mislabelled_classes_are_named(folder, rows):
    write_lists(folder, [*rows, ("test", "n99999999", "n9999999900000001.jpg", b"")])
    with pytest.raises(DataError, match=r"test\.csv, line 42: 'n99999999' is not one of the 100"):
        consume(folder)
    write_lists(folder, [r for r in rows if r[1] not in ("n02091244", "n03075370")])
    with pytest.raises(MissingData, match="no images of n02091244, n03075370; 'val' has 16"):
        consume(folder)
    write_lists(folder, [*rows, ("test", "n01930112", rows[0][2], b"")])
    with pytest.raises(DataError, match="is no image of class 'n01930112'"):
        consume(folder)
    write_lists(folder, [*rows, rows[-1]])
    with pytest.raises(DataError, match="listed twice"):
        consume(folder)


@pytest.mark.faults
def test_a_listed_image_that_is_absent_is_named(folder, rows):
    (folder / "images" / rows[10][2]).unlink()
    with pytest.raises(MissingData, match=rf"train\.csv, line 12: '{rows[10][2]}' is listed but"):
        consume(folder)


@pytest.mark.faults
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 100,
        b"filename;label\na;b\n",
        b"name,label\na,b\n",
        b"filename,label\n\xff\xfe,n\n",
        b"filename,label\n\n",
        b"filename,label\nonly-one-field\n",
        b'filename,label\n"never closed',
    ],
)
def test_what_is_no_list_is_named(folder, content):
    (folder / "val.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"val\.csv|'val' has 16 classes"):
        consume(folder)


@pytest.mark.faults
@pytest.mark.parametrize("name", ["../../secret.jpg", "/etc/secret.jpg", "a/../../../secret.jpg"])
def test_a_listed_path_that_climbs_out_is_refused(folder, rows, name):
    (folder.parent.parent / "secret.jpg").write_bytes(jpeg(1))
    write_lists(folder, [("train", "n01532829", name, b""), *rows])
    with pytest.raises(UnsafeData, match="secret"):
        consume(folder)


@pytest.mark.faults
def test_a_link_that_leads_out_is_refused(folder, rows, tmp_path):
    (tmp_path / "outside.jpg").write_bytes(rows[0][3])
    inside = folder / "images" / rows[0][2]
    inside.unlink()
    inside.symlink_to(tmp_path / "outside.jpg")
    with pytest.raises(UnsafeData, match=rows[0][2]):
        consume(folder)


@pytest.mark.faults
@pytest.mark.parametrize("content", [b"", b"MZ\x90\x00" + bytes(300), jpeg(0)[:-40]])
def test_what_is_no_image_is_named_and_leaves_no_store(folder, rows, tmp_path, content):
    for row in (rows[3], rows[8]):
        (folder / "images" / row[2]).write_bytes(content)
    with pytest.raises(DamagedData, match=rf"2 images .*{rows[3][2]}.*{rows[8][2]}"):
        build_store("mini_imagenet", tmp_path / "data", source=folder)
    assert list((tmp_path / "data" / "mini_imagenet-ravi").iterdir()) == []


@pytest.mark.faults
def test_a_wrong_parquet_is_named(rows, tmp_path):
    path = tmp_path / "p.parquet"
    altered = [r[3] for r in rows]
    altered[5] = altered[6]
    with pytest.raises(DamagedData, match=rf"p\.parquet: {rows[5][2]}: its bytes do not have"):
        consume(write_parquet(path, rows, jpeg=altered))
    with pytest.raises(DataError, match="row 0: its split is 'dev'"):
        consume(write_parquet(path, rows, split=["dev"] * len(rows)))
    with pytest.raises(DataError, match="row 128: class n01855672 belongs to 'val'"):
        consume(write_parquet(path, rows, split=["train"] * len(rows)))
    with pytest.raises(DataError, match=r"row 200: .* listed twice"):
        consume(write_parquet(path, [*rows, rows[0]]))
    with pytest.raises(MissingData, match="no images of n07613480"):
        consume(write_parquet(path, rows[:-PER_CLASS]))
    pq.write_table(pq.read_table(path).drop_columns(["jpeg"]), path)
    with pytest.raises(DamagedData, match="no column jpeg"):
        consume(path)
    path.write_bytes(b"PAR1 but nothing else")
    with pytest.raises(DamagedData, match=r"p\.parquet: not a readable Parquet"):
        consume(tmp_path)


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("where", [0.02, 0.3, 0.6, 0.99])
def test_a_flipped_byte_in_the_parquet_is_named(data_root, tmp_path, where):
    original = data_root / "miniimagenet" / "mini84_100x60_subset.parquet"
    data = bytearray(original.read_bytes())
    data[int(len(data) * where)] ^= 0xFF
    path = tmp_path / "mini.parquet"
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"mini\.parquet"):
        consume(path)
