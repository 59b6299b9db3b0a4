"""An S3-compatible store that tests start themselves: moto's server, as a process of its own."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

from mlflow_server import free_port, wait_for

BUCKET = "shelf"
#: What a client needs; the values are no secrets, the server takes any.
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "reader",
    "AWS_SECRET_ACCESS_KEY": "not-a-secret",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_REGION": "us-east-1",
}


class Store:
    """The server, with an empty bucket. Its objects live as long as its process."""

    def __init__(self, folder: Path) -> None:
        self._port = free_port()
        self.endpoint = f"http://127.0.0.1:{self._port}"
        with (folder / "store.log").open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self._port)],
                env={**os.environ, **CREDENTIALS, "PYTHONWARNINGS": "ignore"},
                start_new_session=True,
                stdout=output,
                stderr=output,
            )
        wait_for(self._listens, "the object store")
        with self.client() as client:
            client.create_bucket(Bucket=BUCKET)

    def _listens(self) -> bool:
        assert self._process.poll() is None, "the object store has ended"
        try:
            socket.create_connection(("127.0.0.1", self._port), 1).close()
        except OSError:
            return False
        return True

    def environment(self, endpoint: str | None = None) -> dict[str, str]:
        """What a process needs to reach the store."""
        return {**CREDENTIALS, "AWS_ENDPOINT_URL": endpoint or self.endpoint}

    @contextlib.contextmanager
    def client(self) -> Iterator[Any]:
        """Another implementation's client, to look at the store and to damage it."""
        import boto3

        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        )
        try:
            yield client
        finally:
            client.close()  # its connections: left to the collector they are a warning

    def keys(self, prefix: str = "") -> list[str]:
        """All keys of the bucket that start so."""
        with self.client() as client:
            pages = client.get_paginator("list_objects_v2")
            return [
                held["Key"]
                for page in pages.paginate(Bucket=BUCKET, Prefix=prefix)
                for held in page.get("Contents", [])
            ]

    def read(self, key: str) -> bytes:
        """An object."""
        with self.client() as client:
            data: bytes = client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return data

    def write(self, key: str, data: bytes) -> None:
        """Make an object."""
        with self.client() as client:
            client.put_object(Bucket=BUCKET, Key=key, Body=data)

    def copy(self, folder: Path, prefix: str) -> None:
        """Put all files of a folder, as a tool that knows nothing of us does."""
        with self.client() as client:
            for path in filter(Path.is_file, folder.rglob("*")):
                client.upload_file(str(path), BUCKET, f"{prefix}/{path.relative_to(folder)}")

    def flip(self, key: str) -> None:
        """Alter the last byte of an object."""
        data = bytearray(self.read(key))
        data[-1] ^= 1
        self.write(key, bytes(data))

    def deny(self, bucket: str) -> None:
        """Make a bucket whose objects nobody may read or write."""
        statement = (
            '{"Effect": "Deny", "Principal": "*", "Action": "s3:*", '
            f'"Resource": ["arn:aws:s3:::{bucket}", "arn:aws:s3:::{bucket}/*"]}}'
        )
        policy = f'{{"Version": "2012-10-17", "Statement": [{statement}]}}'
        with self.client() as client:
            client.create_bucket(Bucket=bucket)
            client.put_bucket_policy(Bucket=bucket, Policy=policy)

    def signal(self, number: signal.Signals) -> None:
        """To its process: SIGSTOP makes it hang, SIGCONT lets it go on."""
        os.killpg(self._process.pid, number)

    def stop(self) -> None:
        """End it; its objects are lost."""
        os.killpg(self._process.pid, signal.SIGCONT)
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


#: Method, path with query, headers and body of a request.
Request = tuple[str, str, Message, bytes]
#: Status, body and headers of an answer.
Answer = tuple[int, str | bytes, dict[str, str]]


class Canned:
    """A store that answers what a test wants, one request at a time.

    Args:
        answer: what to say to a request; a status of 0 ends the connection without a word.
        tls: certificate and key, to speak https.
    """

    def __init__(self, answer: Callable[[Request], Answer], tls: Path | None = None) -> None:
        self.asked: list[Request] = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(inner) -> None:
                inner.raw_requestline = inner.rfile.readline(65537)
                if not inner.raw_requestline or not inner.parse_request():
                    inner.close_connection = True
                    return
                body = inner.rfile.read(int(inner.headers.get("Content-Length") or 0))
                request = (inner.command, inner.path, inner.headers, body)
                with self._lock:
                    self.asked.append(request)
                    status, said, headers = answer(request)
                if not status:
                    inner.close_connection = True
                    return
                inner.send_response(status)
                data = said.encode() if isinstance(said, str) else said
                for name, value in {"Content-Length": str(len(data)), **headers}.items():
                    inner.send_header(name, value)
                inner.end_headers()
                inner.wfile.write(b"" if inner.command == "HEAD" else data)
                if headers.get("Content-Length", str(len(data))) != str(len(data)):
                    inner.close_connection = True  # broken off

            def log_message(self, *_: object) -> None:
                pass

        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        scheme = "http" if tls is None else "https"
        self.endpoint = f"{scheme}://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Canned:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class Gate:
    """A TCP proxy before a server: while it is shut, connections are refused and those there end.

    Args:
        target: the server's port on this machine.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._port = free_port()
        self.endpoint = f"http://127.0.0.1:{self._port}"
        self._listener: socket.socket | None = None
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()

    @classmethod
    def before(cls, store: Store) -> Gate:
        """A gate before a store."""
        return cls(int(store.endpoint.rpartition(":")[2]))

    def open(self) -> None:
        """Let connections through."""
        listener = socket.create_server(("127.0.0.1", self._port), backlog=64)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def shut(self) -> None:
        """Refuse connections, and break those that there are."""
        if self._listener is not None:
            listener, self._listener = self._listener, None
            listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            listener.close()
        with self._lock:
            for end in (end for pair in self._pairs for end in pair):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near = listener.accept()[0]
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._target), 5)
            except OSError:
                near.close()
                continue
            threading.Thread(target=self._carry, args=(near, far), daemon=True).start()

    def _carry(self, near: socket.socket, far: socket.socket) -> None:
        with near, far:
            with self._lock:
                self._pairs.add((near, far))
            try:
                while True:
                    for end in select.select([near, far], [], [])[0]:
                        data = end.recv(1 << 16)
                        if not data:
                            return
                        (far if end is near else near).sendall(data)
            except OSError:
                return
            finally:
                with self._lock:
                    self._pairs.discard((near, far))

    def __enter__(self) -> Gate:
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shut()


def serve(folder: Path) -> Iterator[Store]:
    """For a fixture: a store that ends with it."""
    store = Store(folder)
    try:
        yield store
    finally:
        store.stop()
