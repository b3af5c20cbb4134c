"""A headless Chromium, driven by the Chrome DevTools Protocol over pipes."""

import json
import os
import subprocess
import time
from base64 import b64decode
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    "--remote-debugging-pipe",
)
"""No name is resolved but this machine's own address: a page that asks for one fails."""

# Chromium reads commands from descriptor 3 and answers on 4
PIPED = 'exec chromium "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1'


class Chromium:
    """A browser process; a context manager, and `tab` opens a page.

    Attributes:
        profile: A new folder for the browser's profile.
    """

    def __init__(self, profile: Path) -> None:
        arguments = [*ARGUMENTS, f"--user-data-dir={profile}"]
        self._process = subprocess.Popen(
            ["sh", "-c", PIPED, "sh", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._numbers = count(1)
        self._unread = b""
        self._heard: Callable[[Mapping[str, Any]], None] = lambda _: None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(OSError):
            self.send("Browser.close")
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            self._pipe(pipe).close()

    def send(self, method: str, session: str = "", **given: Any) -> Any:
        """Send a command and return its result; events until then go to the open tab.

        Raises:
            OSError: The browser refused the command, or ended.
        """
        number = next(self._numbers)
        command = {"id": number, "method": method, "params": given}
        command |= {"sessionId": session} if session else {}
        pipe = self._pipe(self._process.stdin)
        pipe.write(json.dumps(command).encode() + b"\0")
        pipe.flush()
        while (found := self._read()).get("id") != number:
            self._heard(found)
        if "error" in found:
            raise OSError(f"{method}: {found['error']['message']}")
        return found["result"]

    def tab(self, *, width_px: int = 1280, height_px: int = 900, dark: bool = False) -> "Tab":
        """Open an empty page of a size, with a light or a dark scheme."""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = Tab(self, session)
        self._heard = tab.heard
        for domain in ("Page", "Runtime", "Log"):
            tab.send(f"{domain}.enable")
        # processor time: other programs do not count
        tab.send("Performance.enable", timeDomain="threadTicks")
        size = {"width": width_px, "height": height_px, "deviceScaleFactor": 1}
        tab.send("Emulation.setDeviceMetricsOverride", mobile=width_px < 640, **size)
        tab.send("Emulation.setFocusEmulationEnabled", enabled=True)
        tab.scheme(dark=dark)
        return tab

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            part = os.read(self._pipe(self._process.stdout).fileno(), 1 << 20)
            if not part:
                raise OSError("chromium ended")
            self._unread += part
        text, _, self._unread = self._unread.partition(b"\0")
        found: dict[str, Any] = json.loads(text)
        return found

    @staticmethod
    def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
        if pipe is None:
            raise OSError("chromium has no pipe")
        return pipe


class Tab:
    """An open page.

    Attributes:
        console: Messages of the console, errors and warnings of the browser among them.
    """

    def __init__(self, browser: Chromium, session: str) -> None:
        self._browser, self._session = browser, session
        self.console: list[str] = []

    def send(self, method: str, **given: Any) -> Any:
        """Send a command for this page and return its result."""
        return self._browser.send(method, self._session, **given)

    def scheme(self, *, dark: bool = False) -> None:
        """Set the colour scheme."""
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.send("Emulation.setEmulatedMedia", features=features)

    def open(self, page: Path | str) -> None:
        """Load a file or an address."""
        address = page if isinstance(page, str) else page.resolve().as_uri()
        self.send("Page.navigate", url=address)
        self.wait("document.readyState === 'complete'")

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression as JSON values; a promise is awaited.

        Raises:
            OSError: The expression raised an error.
        """
        found = self.send(
            "Runtime.evaluate",
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        if "exceptionDetails" in found:
            raise OSError(str(found["exceptionDetails"]))
        return found["result"].get("value")

    def wait(self, expression: str, seconds: float = 30.0) -> None:
        """Wait until an expression is true.

        Raises:
            TimeoutError: It did not become true.
        """
        end = time.monotonic() + seconds
        while not self.evaluate(f"Boolean({expression})"):
            if time.monotonic() > end:
                raise TimeoutError(f"{expression} is still false after {seconds:.0f} s")
            time.sleep(0.05)

    def press(self, key: str) -> None:
        """Press and release a key, such as ``Enter`` or ``ArrowDown``."""
        codes = {"Tab": 9, "Enter": 13, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
        given = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key]}
        text = {"text": "\r"} if key == "Enter" else {}
        self.send(
            "Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **given, **text
        )
        self.send("Input.dispatchKeyEvent", type="keyUp", **given)

    def work_s(self) -> float:
        """Return the seconds that the main thread has worked for this page."""
        metrics = self.send("Performance.getMetrics")["metrics"]
        return float({one["name"]: one["value"] for one in metrics}["TaskDuration"])

    def screenshot(self, path: Path, *, whole: bool = True) -> Path:
        """Write a picture of the page, or of what is in view, as PNG."""
        found = self.send("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(b64decode(found["data"]))
        return path

    def pdf(self, path: Path) -> Path:
        """Print the page on A4."""
        size = {"paperWidth": 8.27, "paperHeight": 11.69}
        found = self.send("Page.printToPDF", printBackground=True, **size)
        path.write_bytes(b64decode(found["data"]))
        return path

    def heard(self, event: Mapping[str, Any]) -> None:
        """Note an event of this page."""
        if event.get("sessionId") != self._session:
            return
        given = event.get("params", {})
        if event["method"] == "Runtime.consoleAPICalled":
            self.console.append(" ".join(str(one.get("value")) for one in given["args"]))
        elif event["method"] == "Runtime.exceptionThrown":
            self.console.append(json.dumps(given["exceptionDetails"]))
        elif event["method"] == "Log.entryAdded":
            self.console.append(str(given["entry"]["text"]))
