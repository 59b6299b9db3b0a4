"""A small server on loopback that answers like the dashboard of a Ray cluster, or like none."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Dashboard:
    """What it is to answer, and what it was asked.

    Attributes:
        version: of Ray; None answers with a page that is no dashboard's.
        status: of every answer.
        agent: whether there is one to start jobs.
        jobs: by submission id, as the dashboard describes them; a list is consumed answer by
            answer, and its last entry stays.
        submitted: bodies of submissions.
        headers: of the last request.
    """

    version: str | None = None
    status: int = 200
    agent: bool = True
    jobs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    after: list[dict[str, Any]] = field(default_factory=list)
    submitted: list[dict[str, Any]] = field(default_factory=list)
    uploaded: list[bytes] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    url: str = ""
    token: str = ""

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """Status and document."""
        words = {401: "Unauthorized: Missing authentication token", 403: "Forbidden: Invalid"}
        if self.token and "authorization" not in self.headers:
            return 401, words[401]
        if self.token and self.headers["authorization"] != f"Bearer {self.token}":
            return 403, words[403]
        if self.status != 200:
            return self.status, words.get(self.status, "trouble")
        if path == "/api/version":
            if self.version is None:
                return 200, "<html>welcome</html>"
            return 200, {"version": "4", "ray_version": self.version, "ray_commit": "c"}
        if path.startswith("/api/packages/"):
            self.uploaded += [body] if method == "PUT" else []
            return (200, {}) if method == "PUT" else (404, "does not exist")
        if path == "/api/jobs/" and method == "POST" and not self.agent:
            return 500, "No available agent to submit job, please try again later."
        if path == "/api/jobs/" and method == "POST":
            asked = json.loads(body)
            self.submitted.append(asked)
            self.jobs[asked["submission_id"]] = [self.after.pop(0)] if self.after else []
            return 200, {"job_id": asked["submission_id"], "submission_id": asked["submission_id"]}
        if path == "/api/jobs/":
            return 200, [self._job(name) for name in self.jobs]
        name = path.removeprefix("/api/jobs/").partition("/")[0]
        if not self.jobs.get(name):
            return 404, f"Job {name} does not exist"
        if path.endswith("/logs"):
            return 200, {"logs": f"log of {name}\n"}
        return 200, self._job(name)

    def _job(self, name: str) -> dict[str, Any]:
        answers = self.jobs[name]
        given = answers.pop(0) if len(answers) > 1 else answers[0]
        asked = next((s for s in self.submitted if s["submission_id"] == name), {})
        known = {"type": "SUBMISSION", "submission_id": name, "entrypoint": "x"}
        return {**known, "metadata": asked.get("metadata", {}), **given}


@contextlib.contextmanager
def serving(dashboard: Dashboard) -> Iterator[Dashboard]:
    """Serve it while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            dashboard.headers = {k.lower(): v for k, v in self.headers.items()}
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, document = dashboard.answer(self.command, self.path.partition("?")[0], body)
            sent = (document if isinstance(document, str) else json.dumps(document)).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_POST = do_PUT = _do

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        dashboard.url = f"http://127.0.0.1:{server.server_port}"
        yield dashboard
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
