"""A real Chromium without a window, steered over its debugging port: keys, screenshots, and what the console says."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from websockets.sync.client import ClientConnection, connect

CHROMIUM: Final = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
_FLAGS: Final = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run", "--hide-scrollbars", "--disable-dev-shm-usage", "--remote-debugging-port=0",
)  # fmt: skip
_KEYS: Final = {
    "ArrowDown": 40, "ArrowUp": 38, "ArrowLeft": 37, "ArrowRight": 39,
    "PageDown": 34, "PageUp": 33, "End": 35, "Home": 36, "Enter": 13, "Escape": 27,
}  # fmt: skip


class Tab:
    """One tab: commands, and the complaints that it made so far."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._last = socket, 0
        self.complaints: list[str] = []
        """Uncaught errors, console errors and warnings, refused requests and breaches of the page's own policy."""
        self.requests: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """What the browser answers to one command of its protocol."""
        self._last += 1
        self._socket.send(json.dumps({"id": self._last, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=60))
            if message.get("id") == self._last:
                assert "error" not in message, message
                found: dict[str, Any] = message["result"]
                return found
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        method, told = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(told["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
            self.complaints.append(json.dumps(told["args"]))
        elif method == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            self.complaints.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")
        elif method == "Page.javascriptDialogOpening":
            self.complaints.append(f"dialog: {told['message']}")
        elif method == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression; promises are awaited."""
        answer = self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, expression: str, seconds: float = 20.0) -> Any:
        """The first true value of an expression; raises `AssertionError` when none comes in time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            value = self.run(expression)
            if value:
                return value
            time.sleep(0.02)
        raise AssertionError(f"{expression} did not come true; complaints: {self.complaints}")

    def open(self, address: str) -> None:
        """Goes to an address and waits for the document and its scripts."""
        self.send("Page.navigate", url=address)
        place = json.dumps(address.partition("#")[0])
        self.until(f"location.href.split('#')[0] === {place} && document.readyState === 'complete'")

    def press(self, key: str) -> None:
        """Presses and lets go of a key, as a person does."""
        text = {} if key in _KEYS else {"text": key}
        code = _KEYS.get(key, ord(key[0].upper()))
        common = {"key": key, "windowsVirtualKeyCode": code, **text}
        self.send("Input.dispatchKeyEvent", type="keyDown", **common)
        self.send("Input.dispatchKeyEvent", type="keyUp", **{k: v for k, v in common.items() if k != "text"})

    def look(self, width: int, height: int, dark: bool = False) -> None:
        """Sets the size of the page, as on a phone below 500 pixels, and the colours that the reader prefers."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self) -> bytes:
        """PNG bytes of what is seen."""
        return base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"])


@contextmanager
def browser(*flags: str) -> Iterator[Tab]:
    """A fresh browser with one tab; its profile and its process end with the block."""
    with tempfile.TemporaryDirectory(prefix="vp-browser-", ignore_cleanup_errors=True) as profile:
        said = Path(profile) / "said.txt"
        with said.open("w") as stderr:
            process = subprocess.Popen(
                [str(CHROMIUM), *_FLAGS, f"--user-data-dir={profile}", *flags, "about:blank"],
                stderr=stderr,
                env={**os.environ, "HOME": profile},
            )
        try:
            with connect(_tab_address(said), max_size=2**28) as socket:
                yield Tab(socket)
        finally:
            process.terminate()
            process.wait(20)


def _tab_address(said: Path) -> str:
    """The debugging address of the first tab, once the browser has said where it listens."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        found = re.search(r"DevTools listening on ((ws://[^/]+)/\S+)", said.read_text())
        if found:
            break
        time.sleep(0.05)
    else:
        raise AssertionError(f"the browser did not start: {said.read_text()}")
    with connect(found.group(1)) as socket:
        socket.send(json.dumps({"id": 1, "method": "Target.getTargets"}))
        targets = json.loads(socket.recv(timeout=20))["result"]["targetInfos"]
    page = next(target for target in targets if target["type"] == "page")
    return f"{found.group(2)}/devtools/page/{page['targetId']}"
