"""Omniglot: every accepted source gives the same store, everything else is named and refused."""

from __future__ import annotations

import io
import json
import shutil
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from data_pipeline.class_store import build_store, read_manifest
from data_pipeline.datasets import omniglot
from data_pipeline.datasets._holdout import hold_out_tenth
from data_pipeline.datasets._omniglot_classes import ALPHABETS, split_classes
from data_pipeline.datasets._omniglot_source import read_drawings
from data_pipeline.errors import DamagedData, DataError, MissingData, UnsafeData
from data_pipeline.preview import nearest_neighbour_accuracy, statistics

ZIPS = ("images_background.zip", "images_evaluation.zip")
# Other pixels are another dataset: when these change, SPEC.version has to change too.
DIGESTS = {
    "vinyals": "b8a6f365f0e75c7651a81b8b571e3633abe148f5a0eb7e2f633ba8ff181224a6",
}
ONE = "images_background/Greek/character03/0396_07.png"


@pytest.fixture(scope="module")
def original(data_root):
    return data_root / "omniglot"


@pytest.fixture(scope="module")
def drawings(original):
    return read_drawings(original / "omniglot_png.parquet")


@pytest.fixture(scope="module")
def store(original, tmp_path_factory):
    return build_store("omniglot", tmp_path_factory.mktemp("data"), source=original)


@pytest.fixture
def zips(original, tmp_path):
    for name in ZIPS:
        (tmp_path / name).write_bytes((original / name).read_bytes())
    return tmp_path


@pytest.fixture(scope="module")
def tree(drawings, tmp_path_factory):
    root = tmp_path_factory.mktemp("tree")
    for path, data in drawings.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root


def parquet(path, drawings, drop=()):
    rows = []
    for name, data in drawings.items():
        top, alphabet, character, file = name.split("/")
        rows.append(
            {
                "set": top.removeprefix("images_"),
                "alphabet": alphabet,
                "character": character,
                "char_id": int(file[:4]),
                "drawer": int(file[5:7]),
                "png": data,
            }
        )
    pq.write_table(pa.Table.from_pylist(rows).drop_columns(list(drop)), path)
    return path


# --- what is in it ----------------------------------------------------------------------------


def test_the_collection_has_its_published_size():
    assert len(ALPHABETS) == 50
    assert sum(a.characters for a in ALPHABETS) == 1623
    numbers = sorted(a.first + c for a in ALPHABETS for c in range(a.characters))
    assert numbers == list(range(1, 1624))


@pytest.mark.parametrize(
    ("split", "sizes"),
    [
        ("vinyals", (1028, 172, 423)),
        ("lake", (868, 96, 659)),
        ("random1200", (1080, 120, 423)),
    ],
)
def test_splits_have_their_sizes_and_share_no_class(split, sizes):
    parts = split_classes(split)
    assert tuple(len(parts[p]) for p in ("train", "val", "test")) == sizes
    everything = [name for classes in parts.values() for name in classes]
    assert len(set(everything)) == len(everything) == 1623
    assert all(classes == sorted(classes) for classes in parts.values())


def test_frozen_draws_stay_what_they_are():
    magi = "Alphabet_of_the_Magi"
    random = split_classes("random1200")
    assert random["test"][:2] == [f"{magi}/character02", f"{magi}/character08"]
    assert random["val"][:2] == [f"{magi}/character04", "Angelic/character18"]
    lake = split_classes("lake")
    assert lake["val"][:2] == [f"{magi}/character04", f"{magi}/character08"]


def test_hold_out_takes_a_tenth_and_does_not_depend_on_order():
    names = [f"class-{i:03d}" for i in range(57)]
    train, val = hold_out_tenth(names, "key")
    assert (len(train), len(val)) == (52, 5)
    assert sorted(train + val) == names
    assert hold_out_tenth(reversed(names), "key") == (train, val)
    assert hold_out_tenth(names, "other key") != (train, val)
    assert [len(part) for part in hold_out_tenth("abcd", "key")] == [2, 2]
    with pytest.raises(DataError, match="too few"):
        hold_out_tenth("abc", "key")


def test_vinyals_is_the_published_list(data_root):
    lists = json.loads((data_root / "splits" / "omniglot_vinyals_classes.json").read_text())
    assert {p: sorted(c) for p, c in lists.items()} == split_classes("vinyals")
    for part, classes in split_classes("vinyals").items():
        text = (data_root / "splits" / "omniglot_vinyals" / f"{part}.txt").read_text()
        assert {line.rsplit("/", 1)[0] for line in text.split()} == set(classes)


def test_the_store_holds_ink_on_nothing(store, drawings):
    assert store.digest == DIGESTS["vinyals"]
    assert store.description["complete"] == "yes: 32460 drawings"
    train = store.parts["train"]
    assert train.images.shape == (20560, 28, 28, 1)
    assert (np.diff(train.offsets) == 20).all()
    assert train.images.min() == 0
    assert train.images.max() == 255
    assert 0.05 < train.images[:2000].mean() / 255 < 0.15  # ink, not paper
    row = train.offsets[train.class_names.index("Greek/character03")] + 6
    ink = 255 - np.asarray(Image.open(io.BytesIO(drawings[ONE])).convert("L"))
    expected = np.asarray(Image.fromarray(ink).resize((28, 28), Image.Resampling.BILINEAR))
    assert np.array_equal(train.images[row, :, :, 0], expected)
    assert len(np.unique(expected)) > 10  # anti-aliased
    names = read_manifest(store)["image"].slice(0, 20).to_pylist()
    assert names == [f"drawer{d:02d}" for d in range(1, 21)]


def test_its_figures_are_the_known_ones(store):
    figures = statistics(store)
    # One pair is in the collection itself: Braille, character 1, drawers 3 and 19.
    assert sum(f["duplicates_in_class"] for f in figures.values()) == 1
    assert all(0.05 < f["brightness"] < 0.12 for f in figures.values())
    mean, _ = nearest_neighbour_accuracy(store, "test")
    assert 0.42 < mean < 0.60


# --- accepted sources -------------------------------------------------------------------------


def test_zips_tree_merged_tree_and_parquet_are_the_same(zips, tree, drawings, tmp_path):
    assert read_drawings(zips) == drawings
    assert read_drawings(tree) == drawings
    merged = tmp_path / "merged"
    merged.mkdir()
    for alphabet in ALPHABETS:
        folder = tree / f"images_{alphabet.published}" / alphabet.name
        (merged / alphabet.name).symlink_to(folder, target_is_directory=True)
    (merged / "README.md").write_text("mine")
    assert read_drawings(merged) == drawings


def test_a_folder_with_one_parquet_and_one_of_each_is_enough(original, tree, drawings, tmp_path):
    (tmp_path / "one").mkdir()
    shutil.copy(original / "omniglot_png.parquet", tmp_path / "one" / "any_name.parquet")
    assert read_drawings(tmp_path / "one") == drawings
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    shutil.copy(original / ZIPS[1], mixed)
    (mixed / "images_background").symlink_to(tree / "images_background")
    assert read_drawings(mixed) == drawings


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


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)


# --- damage -----------------------------------------------------------------------------------


@pytest.fixture
def one_file(tree):
    """A drawing in the extracted tree, put back afterwards."""
    path = tree / ONE
    pristine = path.read_bytes()
    yield path
    path.write_bytes(pristine)


@pytest.mark.faults
def test_one_altered_drawing_is_named_exactly(tree, one_file):
    altered = bytearray(one_file.read_bytes())
    altered[-20] ^= 1
    one_file.write_bytes(altered)
    with pytest.raises(DamagedData, match=rf"published drawings: {ONE}\. Copy"):
        read_drawings(tree)


@pytest.mark.faults
@pytest.mark.parametrize(
    "content", [b"", b"MZ\x90\x00" + bytes(300), b"\x80\x04\x95cos\nsystem\n."]
)
def test_what_is_no_drawing_is_named(tree, one_file, content):
    one_file.write_bytes(content)
    with pytest.raises(DamagedData, match=ONE):
        read_drawings(tree)


@pytest.mark.faults
def test_missing_surplus_and_huge_drawings_are_named(tree, one_file):
    one_file.unlink()
    with pytest.raises(MissingData, match=f"1 drawings are missing: {ONE}"):
        read_drawings(tree)
    one_file.write_bytes(bytes(5000))
    with pytest.raises(UnsafeData, match=r"0396_07\.png"):
        read_drawings(tree)


@pytest.mark.faults
def test_a_surplus_drawing_is_named(tree, one_file):
    surplus = one_file.with_name("0396_21.png")
    surplus.write_bytes(one_file.read_bytes())
    try:
        with pytest.raises(DamagedData, match=r"not drawings of Omniglot: .*0396_21\.png"):
            read_drawings(tree)
    finally:
        surplus.unlink()


@pytest.mark.faults
def test_exchanged_drawings_are_named(drawings, tmp_path):
    other = ONE.replace("_07", "_08")
    swapped = {**drawings, ONE: drawings[other], other: drawings[ONE]}
    with pytest.raises(DamagedData, match=r"0396_07\.png.*0396_08\.png"):
        read_drawings(parquet(tmp_path / "p.parquet", swapped))


@pytest.mark.faults
@pytest.mark.parametrize("number", [0, 5000, -1])
@pytest.mark.parametrize("name", ZIPS)
def test_a_flipped_byte_in_a_zip_is_named(zips, name, number):
    path = zips / name
    with zipfile.ZipFile(path) as file:
        member = file.infolist()[number]
    # 30 bytes of header and the name stand before a member's data.
    flip(path, member.header_offset + 30 + len(member.filename) + member.compress_size // 2)
    with pytest.raises(DamagedData, match=f"{name}.*{member.filename.split('/')[-1]}"):
        read_drawings(zips)


@pytest.mark.faults
@pytest.mark.parametrize("where", [0.1, 0.5, 0.9])
def test_a_flipped_byte_in_the_parquet_is_named(original, tmp_path, where):
    path = tmp_path / "omniglot_png.parquet"
    path.write_bytes((original / path.name).read_bytes())
    flip(path, int(path.stat().st_size * where))
    with pytest.raises(DamagedData, match=r"omniglot_png\.parquet: .*_\d\d\.png\. Copy"):
        read_drawings(path)


@pytest.mark.faults
@pytest.mark.parametrize("name", [*ZIPS, "omniglot_png.parquet"])
def test_a_truncated_archive_is_named(original, tmp_path, name):
    for each in ZIPS if name in ZIPS else [name]:
        shutil.copy(original / each, tmp_path)
    path = tmp_path / name
    path.chmod(0o644)
    data = path.read_bytes()
    for keep in (0, 10, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:keep])
        with pytest.raises(DamagedData, match=name):
            read_drawings(tmp_path)


@pytest.mark.faults
def test_parquet_without_a_column_or_value_is_named(drawings, tmp_path):
    few = dict(list(drawings.items())[:20])
    path = parquet(tmp_path / "p.parquet", few, drop=["char_id"])
    with pytest.raises(DamagedData, match=r"p\.parquet: no column char_id; it has set"):
        read_drawings(path)
    few[next(iter(few))] = None
    with pytest.raises(DamagedData, match="'png' has missing values"):
        read_drawings(parquet(path, few))
    few[next(iter(few))] = bytes(5000)
    with pytest.raises(DamagedData, match="Alphabet_of_the_Magi/character01, drawer 1"):
        read_drawings(parquet(path, few))


@pytest.mark.faults
def test_a_parquet_bomb_is_refused(tmp_path):
    path = tmp_path / "bomb.parquet"
    table = pa.table({name: [bytes(1 << 20)] for name in ("set", "alphabet", "character")})
    table = table.append_column("char_id", [[1]]).append_column("drawer", [[1]])
    table = table.append_column("png", [[bytes(65 << 20)]])
    pq.write_table(table, path, compression="zstd", use_dictionary=False)
    assert path.stat().st_size < 1 << 20
    with pytest.raises(UnsafeData, match=r"bomb\.parquet: unpacks to"):
        read_drawings(path)


def hostile_zip(folder, member, content=b"x", **settings):
    with zipfile.ZipFile(folder / ZIPS[0], "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(member, content, **settings)
    with zipfile.ZipFile(folder / ZIPS[1], "w"):
        pass


@pytest.mark.faults
@pytest.mark.parametrize(
    "member",
    [
        "../climbs.png",
        "images_background/../../climbs.png",
        "/etc/climbs.png",
        "a\\..\\..\\climbs.png",
        "../not_even_an_image.sh",
    ],
)
def test_a_member_that_climbs_out_is_refused(tmp_path, member):
    hostile_zip(tmp_path, member)
    with pytest.raises(UnsafeData, match=r"images_background\.zip: member .*outside"):
        read_drawings(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(ZIPS)


@pytest.mark.faults
def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    hostile_zip(tmp_path, ONE, bytes(100 << 20))
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *a, **k: pytest.fail("it was opened"))
    with pytest.raises(UnsafeData, match=r"Greek/character03/0396_07\.png.*unpacks to"):
        read_drawings(tmp_path)


@pytest.mark.faults
def test_a_zip_that_lies_about_sizes_is_refused(tmp_path):
    hostile_zip(tmp_path, ONE, bytes(1 << 20))
    data = (tmp_path / ZIPS[0]).read_bytes()
    lie = data.replace((1 << 20).to_bytes(4, "little"), (100).to_bytes(4, "little"))
    assert lie != data
    (tmp_path / ZIPS[0]).write_bytes(lie)
    with pytest.raises(DamagedData, match=r"0396_07\.png.*cannot be unpacked"):
        read_drawings(tmp_path)


@pytest.mark.faults
def test_repeated_encrypted_and_oversized_archives_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / ZIPS[0], "w") as file:
        file.writestr(ONE, b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr(ONE, b"2")
    with zipfile.ZipFile(tmp_path / ZIPS[1], "w"):
        pass
    with pytest.raises(DamagedData, match="there twice"):
        read_drawings(tmp_path)
    hostile_zip(tmp_path, ONE)
    data = bytearray((tmp_path / ZIPS[0]).read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1  # encrypted
    (tmp_path / ZIPS[0]).write_bytes(data)
    with pytest.raises(DamagedData, match="cannot be unpacked"):
        read_drawings(tmp_path)
    with (tmp_path / ZIPS[0]).open("wb") as sparse:
        sparse.truncate(65 << 20)
    with pytest.raises(UnsafeData, match="larger than"):
        read_drawings(tmp_path)


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


def test_download_fetches_verifies_and_does_not_repeat(web, original, drawings, tmp_path):
    pages, asked = web
    pages.update({name: (original / name).read_bytes() for name in ZIPS})
    target = tmp_path / "deep" / "omniglot"
    assert omniglot.download(target) == target
    assert read_drawings(target) == drawings
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
