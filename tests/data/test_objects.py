"""The door to object stores: names, errors that explain themselves, waiting, digests."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from object_store import Gate, Store

from data_pipeline.errors import DamagedData, MissingData, StoreAway, StoreError
from data_pipeline.storage import object_requests, objects
from data_pipeline.storage.local import sha256_bytes
from data_pipeline.storage.object_uri import address_of, endpoint, local_path, parse_uri, redacted
from data_pipeline.storage.objects import ObjectPlace, object_place


@pytest.fixture
def place(shelf: str) -> ObjectPlace:
    return _place(shelf)


def _place(uri: str) -> ObjectPlace:
    found = object_place(local_path(uri))
    assert found is not None
    return found


def test_working_copies_say_what_they_are_of(shelf: str, tmp_path: Path) -> None:
    copy = local_path(f"{shelf}/data/")
    assert copy.is_relative_to(tmp_path / "cache")
    assert address_of(copy) == f"{shelf}/data"
    assert str(object_place(copy / "strokes" / "store")) == f"{shelf}/data/strokes/store"
    assert object_place(tmp_path) is None
    assert object_place(tmp_path / "cache") is None
    assert address_of(tmp_path) == str(tmp_path)


@pytest.mark.parametrize(
    ("uri", "copy", "store"),
    [
        ("gs://bucket/x", "gs/google/bucket/x", "Google Cloud Storage"),
        ("az://box/x", "az/mine.blob.core.windows.net/box/x", "https://mine.blob.core.windows.net"),
    ],
)
def test_working_copies_of_other_services(
    uri: str, copy: str, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METADIST_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "mine")
    path = local_path(uri)
    assert path == tmp_path / copy
    assert address_of(path / "y") == f"{uri}/y"
    assert (str(_place(uri)), str(_place(uri).store)) == (uri, store)


def test_azure_needs_an_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(StoreError, match="AZURE_STORAGE_ACCOUNT_NAME must name the account"):
        local_path("az://box/x")


def test_stores_of_one_bucket_name_have_copies_of_their_own(
    shelf: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = local_path(shelf)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://elsewhere.example:9000/")
    assert str(endpoint()) == "https://elsewhere.example:9000"
    assert local_path(shelf) != here
    assert object_place(here) is None


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("s3://key:word@bucket/x", "credentials do not belong into a URI.*AWS_SECRET_ACCESS_KEY"),
        ("gs://key:word@bucket/x", "credentials do not belong into a URI.*GOOGLE_APPLICATION"),
        ("az://box/x?sig=word", "takes no options"),
        ("s3://bucket/x?secret_key=word", "takes no options"),
        ("ftp://bucket/x", "s3://bucket/prefix"),
        ("s3:/bucket/x", "s3://bucket/prefix"),
        ("s3://Bucket_/x", "cannot be a bucket"),
        ("s3://", "cannot be a bucket"),
        ("s3://bucket/a/../b", "cannot be part of a prefix"),
        ("s3://bucket/a//b", "cannot be part of a prefix"),
        ("s3://bucket/.hidden", "cannot be part of a prefix"),
        ("s3://[bucket/x", "no URI"),
    ],
)
def test_refused_uris(uri: str, problem: str) -> None:
    with pytest.raises(StoreError, match=problem) as caught:
        parse_uri(uri)
    assert "word" not in str(caught.value)


@pytest.mark.parametrize(
    "value", ["http://key:word@host:9000", "host:9000", "ftp://host", "http://h/x"]
)
def test_refused_endpoints(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", value)
    with pytest.raises(StoreError, match="AWS_ENDPOINT_URL") as caught:
        endpoint()
    assert "word" not in str(caught.value)


def test_redacted() -> None:
    assert redacted("s3://a:b@bucket/x?y=z") == "s3://***@bucket/x?***"
    assert redacted("s3://bucket/x") == "s3://bucket/x"


def test_put_get_list_delete(place: ObjectPlace, object_store: Store, tmp_path: Path) -> None:
    (place / "a/b").put(b"one")
    (place / "c").put(b"")
    (tmp_path / "file").write_bytes(b"two" * 1000)
    (place / "a/d").put_file(tmp_path / "file")
    assert object_store.read(f"{place.key}/a/b") == b"one"
    assert [(o.name, o.size) for o in place.objects()] == [("a/b", 3), ("a/d", 3000), ("c", 0)]
    assert place.folders() == ["a"]
    assert (place / "c").get() == b""
    assert (place / "a/d").digest() == (sha256_bytes(b"two" * 1000), 3000)
    (place / "a/d").get_file(tmp_path / "back", sha256_bytes(b"two" * 1000))
    assert (tmp_path / "back").read_bytes() == b"two" * 1000
    (place / "c").delete()
    (place / "c").delete()
    (place / "a").delete_below()
    assert place.objects() == []


def test_what_was_put_is_known_again(
    place: ObjectPlace, object_store: Store, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"two")
    assert not place.holds("2")
    place.put_file(tmp_path / "file", "2")
    assert place.holds("2")
    assert not place.holds("3")
    object_store.write(place.key, b"two")  # who else puts something there does not note it
    assert not place.holds("2")


def test_damaged_object_is_named(place: ObjectPlace, object_store: Store, tmp_path: Path) -> None:
    thing = place / "thing"
    thing.put(b"right")
    object_store.flip(thing.key)
    with pytest.raises(DamagedData, match=f"{thing}: its digest is"):
        thing.get(sha256_bytes(b"right"))
    with pytest.raises(DamagedData, match=f"{thing}: its digest is"):
        thing.get_file(tmp_path / "file", sha256_bytes(b"right"))
    assert not (tmp_path / "file").exists()


def test_what_is_not_there_is_named(place: ObjectPlace, shelf: str) -> None:
    with pytest.raises(MissingData, match=f"{place}/thing: no such object"):
        (place / "thing").get()
    elsewhere = ObjectPlace(endpoint(), "no-such-bucket", "x")
    for ask in (elsewhere.objects, elsewhere.check_bucket, lambda: elsewhere.put(b"")):
        with pytest.raises(MissingData, match="has no bucket 'no-such-bucket'"):
            ask()


def test_denied_access_is_not_repeated(place: ObjectPlace, object_store: Store) -> None:
    object_store.deny("locked")
    with pytest.raises(StoreError, match=r"s3://locked/x: .* denies access .*AWS_ACCESS_KEY_ID"):
        ObjectPlace(endpoint(), "locked", "x").put(b"")


def test_a_store_that_comes_back(
    place: ObjectPlace,
    object_store: Store,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Gate.before(object_store) as gate:
        monkeypatch.setenv("AWS_ENDPOINT_URL", gate.endpoint)
        place = _place(str(place))
        (place / "x").put(b"1")
        gate.shut()
        threading.Timer(0.6, gate.open).start()
        (place / "x").put(b"2")
        assert (place / "x").get() == b"2"
    assert "does not answer" in caplog.text
    assert "answers again" in caplog.text
    assert object_requests.seconds_away() is None


def test_a_store_that_stays_away(
    place: ObjectPlace, monkeypatch: pytest.MonkeyPatch, object_store: Store
) -> None:
    gate = Gate.before(object_store)
    monkeypatch.setenv("AWS_ENDPOINT_URL", gate.endpoint)
    place = _place(str(place))
    monkeypatch.setenv("METADIST_STORE_WAIT_S", "0.5")
    with pytest.raises(StoreAway, match=f"{place}/x: {gate.endpoint} has not answered"):
        (place / "x").get()
    assert object_requests.seconds_away() is not None
    monkeypatch.setenv("METADIST_STORE_WAIT_S", "60")
    began = time.monotonic()
    with pytest.raises(StoreAway):  # who has given up once does not wait at each request
        (place / "x").put(b"")
    assert time.monotonic() - began < 30
    with gate:
        (place / "x").put(b"3")
    assert object_requests.seconds_away() is None


def test_a_disk_that_fails_is_no_fault_of_the_store(place: ObjectPlace, tmp_path: Path) -> None:
    (place / "x").put(b"1")
    with pytest.raises(FileNotFoundError):
        (place / "x").put_file(tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        (place / "x").put_file(tmp_path)
    with pytest.raises(FileNotFoundError):
        (place / "x").get_file(tmp_path / "none" / "x", sha256_bytes(b"1"))
    assert object_requests.seconds_away() is None


def test_of_many_who_make_one_object_one_succeeds(place: ObjectPlace) -> None:
    for number in range(3):
        start = threading.Barrier(8)

        def make(key: int, place: ObjectPlace = place / str(number)) -> bool:
            start.wait()  # noqa: B023
            return place.create(str(key).encode())

        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(make, range(8)))
        assert made.count(True) == 1
        assert (place / str(number)).get() == str(made.index(True)).encode()


def test_large_files_go_and_come_in_parts(
    place: ObjectPlace, object_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "_PART", 5 << 20)
    data = os.urandom(12 << 20)
    (tmp_path / "file").write_bytes(data)
    (place / "x").put_file(tmp_path / "file")
    with object_store.client() as client:
        there = client.head_object(Bucket=place.bucket, Key=f"{place.key}/x")
    assert there["ETag"].endswith('-3"')  # in three parts, says the store
    (place / "x").get_file(tmp_path / "back", sha256_bytes(data), len(data))
    assert (tmp_path / "back").read_bytes() == data


def test_folders_that_other_tools_mark_are_no_objects(
    place: ObjectPlace, object_store: Store
) -> None:
    for name in ("", "a/", "a/x"):
        object_store.write(f"{place.key}/{name}", b"")
    assert [found.name for found in place.objects() if found.name != "a"] == ["a/x"]
    assert place.folders() == ["a"]


def test_a_forked_process_is_told(shelf: str) -> None:
    script = f"""
import os
from data_pipeline.errors import StoreError
from data_pipeline.storage.object_uri import local_path
from data_pipeline.storage.objects import object_place
place = object_place(local_path({shelf!r}))
place.put(b"1")
child = os.fork()
if not child:
    try:
        place.get()
    except StoreError as error:
        os._exit(7 if "this process was forked" in str(error) else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert place.get() == b"1"
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
