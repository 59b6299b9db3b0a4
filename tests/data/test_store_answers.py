"""What a store may answer, and what is made of it: by servers that say what a test wants."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from object_store import Answer, Canned, Request, Store

from data_pipeline.errors import MissingData, StoreError
from data_pipeline.storage import object_requests, objects
from data_pipeline.storage.local import sha256_bytes
from data_pipeline.storage.object_uri import local_path
from data_pipeline.storage.objects import ObjectPlace, object_place


@pytest.fixture
def place(shelf: str) -> ObjectPlace:
    return _place(shelf)


def _place(uri: str) -> ObjectPlace:
    found = object_place(local_path(uri))
    assert found is not None
    return found


@pytest.fixture
def answering(shelf: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ObjectPlace]]:
    """Makes a place in a store that answers as is said, or in turn with these."""
    started: list[Canned] = []

    def start(
        *answers: Answer | Callable[[Request], Answer], uri: str = "s3://shelf/x"
    ) -> ObjectPlace:
        left = list(answers)

        def answer(request: Request) -> Answer:
            now = left.pop(0) if len(left) > 1 else left[0]
            return now(request) if callable(now) else now

        server = Canned(answer)
        started.append(server.__enter__())
        for name in ("AWS_ENDPOINT_URL", "GOOGLE_BASE_URL", "AZURE_STORAGE_ENDPOINT"):
            monkeypatch.setenv(name, server.endpoint)
        monkeypatch.setattr(object_requests, "_PAUSES", (0.01, 0.01))
        return _place(uri)

    yield start
    for server in started:
        server.__exit__()


def _error(status: int, code: str, message: str = "as it says") -> Answer:
    return status, f"<Error><Code>{code}</Code><Message>{message}</Message></Error>", {}


PUT: Answer = (200, "", {"ETag": '"1"'})
HELD: Answer = (412, "", {})


def _object(data: bytes) -> Answer:
    return 200, data, {"ETag": '"1"', "Last-Modified": "Mon, 30 Nov 2026 07:00:00 GMT"}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((301, "", {}), "another region than was asked .*AWS_REGION"),
        (_error(400, "AuthorizationHeaderMalformed"), "another region.*Malformed: as it says"),
        (_error(400, "EntityTooLarge"), r"refuses \(EntityTooLarge: as it says\)"),
        (_error(403, "InvalidAccessKeyId"), r"denies access \(InvalidAccessKeyId: as it says\)"),
        ((401, "", {}), r"denies access \(401 Unauthorized\)"),
        (_error(404, "NoSuchBucket"), "has no bucket 'shelf'"),
        (_error(501, "NotImplemented"), r"refuses \(NotImplemented"),
    ],
)
def test_a_refusal_is_explained_at_once(
    answering: Callable[..., ObjectPlace], answer: Answer, said: str
) -> None:
    place = answering(answer)
    for ask in (lambda: place.put(b""), place.objects, lambda: place.create(b"")):
        with pytest.raises((StoreError, MissingData), match=f"s3://shelf/x: .*{said}"):
            ask()


def test_what_a_store_may_do_later_is_asked_again(answering: Callable[..., ObjectPlace]) -> None:
    place = answering(_error(400, "RequestTimeout"), (503, "", {}), (0, "", {}), (429, "", {}), PUT)
    place.put(b"1")
    assert object_requests.seconds_away() is None


@pytest.mark.parametrize("uri", ["s3://shelf/x", "gs://shelf/x", "az://shelf/x"])
def test_no_secret_is_told(
    answering: Callable[..., ObjectPlace], monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "mine")
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", "sv=1&sig=a-secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
    monkeypatch.setenv("GOOGLE_BEARER_TOKEN", "a-secret")
    monkeypatch.setenv("METADIST_STORE_WAIT_S", "0")
    place = answering(lambda _: (0, "", {}), (500, "", {}), (403, "", {}), uri=uri)
    for _ in range(3):
        with pytest.raises(StoreError) as caught:
            place.put(b"1")
        assert str(place) in str(caught.value)
        assert "a-secret" not in str(caught.value)
    unknown = ValueError("error performing GET https://mine/x?sv=1&sig=a-secret in 1 ms")
    assert object_requests.brief(unknown) == "error performing GET https://mine/x in 1 ms"


@pytest.mark.parametrize("uri", ["gs://shelf/x", "az://shelf/x"])
def test_other_services_make_an_object_where_there_is_none(
    answering: Callable[..., ObjectPlace], monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "mine")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "bm90IGEgc2VjcmV0")
    monkeypatch.setenv("GOOGLE_BEARER_TOKEN", "not a secret")
    asked: list[Request] = []

    def answer(request: Request) -> Answer:
        asked.append(request)
        return {1: PUT, 2: _error(409 if uri[0] == "a" else 412, "BlobAlreadyExists")}.get(
            len(asked), _object(b"mine")
        )

    assert answering(answer, uri=uri).create(b"mine")
    condition = "x-goog-if-generation-match" if uri[0] == "g" else "If-None-Match"
    assert asked[0][2][condition] in ("0", "*")


def test_who_has_not_heard_of_its_success_knows_its_object(
    place: ObjectPlace, object_store: Store, answering: Callable[..., ObjectPlace]
) -> None:
    def lost(request: Request) -> Answer:
        object_store.write(f"{place.key}/x", request[3])
        return 0, "", {}

    def held(request: Request) -> Answer:
        return HELD if request[0] == "PUT" else _object(object_store.read(f"{place.key}/x"))

    assert answering(lost, held).create(b"mine")
    assert not answering(held).create(b"another's")


def test_a_conflict_that_leaves_nothing_is_no_loss(answering: Callable[..., ObjectPlace]) -> None:
    conflict = _error(409, "ConditionalRequestConflict")
    nothing = _error(404, "NoSuchKey")
    assert answering(conflict, nothing, PUT, HELD, _object(b"mine")).create(b"mine")
    place = answering(lambda request: conflict if request[0] == "PUT" else nothing)
    with pytest.raises(StoreError, match="makes no object there, though there is none"):
        place.create(b"mine")


def test_a_store_that_overwrites_what_is_claimed_is_refused(
    answering: Callable[..., ObjectPlace],
) -> None:
    place = answering(PUT)
    with pytest.raises(StoreError, match=r"s3://shelf/x: .*puts an object where one is already"):
        place.create(b"mine")


def test_a_download_that_breaks_off_goes_on(
    answering: Callable[..., ObjectPlace], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "_BLOCK", 1024)
    data = os.urandom(64 << 10)
    starts: list[str | None] = []

    def answer(request: Request) -> Answer:
        given = request[2]["Range"]
        starts.append(given)
        start = int(given.removeprefix("bytes=").rstrip("-")) if given else 0
        more = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if given else {}
        headers = {**_object(b"")[2], **more, "Content-Length": str(len(data) - start)}
        return 206 if given else 200, data[start : start + (40 << 10)], headers

    answering(answer).get_file(tmp_path / "file", sha256_bytes(data), len(data))
    assert (tmp_path / "file").read_bytes() == data
    assert starts[0] is None
    assert len(starts) == 2
