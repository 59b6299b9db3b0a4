"""Omniglot: a source that is damaged or hostile is named and refused."""

from __future__ import annotations

import shutil
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from damage import flip
from omniglot_files import ONE, ZIPS

from data_pipeline.datasets._omniglot_source import read_drawings
from data_pipeline.errors import DamagedData, MissingData, UnsafeData


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


# --- drawings ---------------------------------------------------------------------------------


@pytest.fixture
def one_file(tree):
    """A drawing in the extracted tree, put back afterwards."""
    path = tree / ONE
    pristine = path.read_bytes()
    yield path
    path.write_bytes(pristine)


@pytest.mark.slow
@pytest.mark.faults
def test_one_altered_drawing_is_named_exactly(tree, one_file):
    altered = bytearray(one_file.read_bytes())
    altered[-20] ^= 1
    one_file.write_bytes(altered)
    with pytest.raises(DamagedData, match=rf"published drawings: {ONE}\. Copy"):
        read_drawings(tree)


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize(
    "content", [b"", b"MZ\x90\x00" + bytes(300), b"\x80\x04\x95cos\nsystem\n."]
)
def test_what_is_no_drawing_is_named(tree, one_file, content):
    one_file.write_bytes(content)
    with pytest.raises(DamagedData, match=ONE):
        read_drawings(tree)


@pytest.mark.slow
@pytest.mark.faults
def test_missing_surplus_and_huge_drawings_are_named(tree, one_file):
    one_file.unlink()
    with pytest.raises(MissingData, match=f"1 drawings are missing: {ONE}"):
        read_drawings(tree)
    one_file.write_bytes(bytes(5000))
    with pytest.raises(UnsafeData, match=r"0396_07\.png"):
        read_drawings(tree)


@pytest.mark.slow
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


# --- archives ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("number", [0, 5000, -1])
@pytest.mark.parametrize("name", ZIPS)
def test_a_flipped_byte_in_a_zip_is_named(zips, name, number):
    path = zips / name
    with zipfile.ZipFile(path) as file:
        member = file.infolist()[number]
    # 30 bytes of header and the name stand before a member's data.
    flip(path, member.header_offset + 30 + len(member.filename) + member.compress_size // 2, 0xFF)
    with pytest.raises(DamagedData, match=f"{name}.*{member.filename.split('/')[-1]}"):
        read_drawings(zips)


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("where", [0.1, 0.5, 0.9])
def test_a_flipped_byte_in_the_parquet_is_named(original, tmp_path, where):
    path = tmp_path / "omniglot_png.parquet"
    path.write_bytes((original / path.name).read_bytes())
    flip(path, int(path.stat().st_size * where), 0xFF)
    with pytest.raises(DamagedData, match=r"omniglot_png\.parquet: .*_\d\d\.png\. Copy"):
        read_drawings(path)


@pytest.mark.slow
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


# --- hostile zips -----------------------------------------------------------------------------


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
