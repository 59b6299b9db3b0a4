"""A headless Chromium, driven through its DevTools protocol over a pair of pipes.

The protocol needs no driver program and no package of Python: each message is JSON that ends with
a zero byte (https://chromedevtools.github.io/devtools-protocol, ``--remote-debugging-pipe``).
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

#: What the browser is called on the systems that have one.
NAMES = ("chromium", "chromium-browser", "google-chrome")
NO_BROWSER = "no browser: install Debian's package 'chromium'"
#: Seconds until a page that a loaded machine draws counts as broken.
PATIENCE = 120.0

#: The browser reads from 3 and writes to 4, numbers that may be in use: first out of their way.
_START = """
import fcntl, os, sys
high = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
os.dup2(high[0], 3)
os.dup2(high[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


def browser_path() -> str | None:
    """Where a browser is; None if there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page of a browser that knows nothing: a new profile, no network of its own.

    Args:
        folder: for its profile.
        size: of the window, in CSS pixels.
    """

    def __init__(self, folder: Path, size: tuple[int, int] = (1440, 1000)) -> None:
        path = browser_path()
        assert path is not None, NO_BROWSER
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()
        options = [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-pipe",
            f"--window-size={size[0]},{size[1]}", f"--user-data-dir={folder}", "about:blank",
        ]  # fmt: skip
        ends = [str(to_browser), str(from_browser)]
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _START, *ends, path, *options],
            pass_fds=(to_browser, from_browser),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._buffer = b""
        self._number = 0
        self._session = ""
        try:
            targets = self.call("Target.getTargets")["targetInfos"]
            page = next(t["targetId"] for t in targets if t["type"] == "page")
            answer = self.call("Target.attachToTarget", targetId=page, flatten=True)
            self._session = answer["sessionId"]
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the browser with all of its processes."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._out)
        os.close(self._in)

    def call(self, method: str, **params: Any) -> Any:
        """Ask for something and wait for the answer."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = self._read(deadline)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                return answer["result"]

    def _read(self, deadline: float) -> Any:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(deadline - time.monotonic(), 0.0))
            assert ready, "the browser does not answer"
            news = os.read(self._in, 1 << 20)
            assert news, f"the browser has ended with status {self._process.poll()}"
            self._buffer += news
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def open(self, url: str) -> None:
        """Go to a page; see :meth:`wait` for one that draws itself."""
        self.call("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    @property
    def text(self) -> str:
        """What the reader sees, in words."""
        return str(self.run("document.body ? document.body.innerText : ''"))

    def wait(self, condition: str, seconds: float = PATIENCE) -> None:
        """Wait until an expression is true in the page."""
        deadline = time.monotonic() + seconds
        while not self.run(f"Boolean({condition})"):
            assert time.monotonic() < deadline, f"waited for {condition}; there is: {self.text}"
            time.sleep(0.2)

    def wait_for_text(self, *words: str, seconds: float = PATIENCE) -> None:
        """Wait until the page says all of these."""
        for word in words:
            self.wait(f"(document.body?.innerText ?? '').includes({json.dumps(word)})", seconds)

    def click(self, text: str, tags: str = "button, a, [role=tab], [role=radio], label") -> None:
        """Click the first element of these kinds with exactly this text."""
        find = (
            f"[...document.querySelectorAll({json.dumps(tags)})]"
            f".find(e => e.innerText?.trim() === {json.dumps(text)})"
        )
        self.wait(find)
        self.run(f"{find}.click()")

    def screenshot(self, path: Path) -> None:
        """The window as a PNG file."""
        answer = self.call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(answer["data"]))

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
