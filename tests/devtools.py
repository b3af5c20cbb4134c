"""A browser that is driven through Chromium's DevTools pipe, for pages that a server makes."""

import base64
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
    # this machine's own addresses are reached, and no others
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)

PIPED = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); "
PIPED += "os.execvp(sys.argv[3], sys.argv[3:])"
"""Chromium reads commands from file descriptor 3 and writes to 4."""

LONGEST_S = 60.0
"""Seconds to wait for what a page is to show."""


class Tab:
    """A page in the browser.

    Attributes:
        console: Errors that the page has reported.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", commands: int, replies: int) -> None:
        self.process = process
        self.console: list[str] = []
        self._commands, self._replies = commands, replies
        self._rest, self._number, self._session = b"", 0, ""
        target = self._send("Target.createTarget", url="about:blank")["targetId"]
        given = {"targetId": target, "flatten": True}
        self._session = self._send("Target.attachToTarget", **given)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._send(f"{domain}.enable")

    def open(self, address: str, width_px: int = 1280, height_px: int = 900) -> None:
        """Open a page in a window of that size."""
        size = {"width": width_px, "height": height_px, "deviceScaleFactor": 1, "mobile": False}
        self._send("Emulation.setDeviceMetricsOverride", **size)
        self._send("Page.navigate", url=address)

    def value(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript, read from its JSON."""
        given = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        found = self._send("Runtime.evaluate", **given)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, expression: str) -> Any:
        """Wait until an expression is true, and return its value."""
        until = time.monotonic() + LONGEST_S
        while time.monotonic() < until:
            if found := self.value(expression):
                return found
            time.sleep(0.1)
        raise AssertionError(f"{expression}: {self.text()[:2000]}")

    def text(self) -> str:
        """Return the text that the page shows."""
        return str(self.value("document.body ? document.body.innerText : ''"))

    def picture(self, path: Path) -> None:
        """Write a screenshot of the whole page."""
        shot = self._send("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def _send(self, method: str, **given: Any) -> dict[str, Any]:
        self._number += 1
        command: dict[str, Any] = {"id": self._number, "method": method, "params": given}
        if self._session:
            command["sessionId"] = self._session
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        while True:
            reply = self._read()
            if reply.get("id") == self._number:
                assert "error" not in reply, reply
                return dict(reply["result"])
            self._note(reply)

    def _note(self, event: dict[str, Any]) -> None:
        if event.get("method") == "Runtime.exceptionThrown":
            self.console.append(json.dumps(event["params"]["exceptionDetails"])[:500])
        if event.get("method") == "Log.entryAdded" and event["params"]["entry"]["level"] == "error":
            self.console.append(json.dumps(event["params"]["entry"])[:500])

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = os.read(self._replies, 1 << 16)
            assert part, "the browser has ended"
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(line))


@contextmanager
def tab(profile: Path) -> Iterator[Tab]:
    """A page in a browser that reaches this machine alone."""
    if shutil.which("chromium") is None:
        pytest.skip("chromium is not installed")
    there, commands = os.pipe()
    replies, back = os.pipe()
    line = [sys.executable, "-c", PIPED, str(there), str(back)]
    process = subprocess.Popen(
        [*line, "chromium", *OPTIONS, f"--user-data-dir={profile}"],
        pass_fds=(there, back),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(there)
    os.close(back)
    try:
        yield Tab(process, commands, replies)
    finally:
        process.terminate()
        process.wait(20)
        os.close(commands)
        os.close(replies)
