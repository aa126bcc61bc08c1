"""What tests of pages share: a headless Chromium that is driven by its DevTools protocol through pipes."""

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import time

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-pipe"),
)
KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
_DEADLINE = 60


class Browser:
    """One page in Chromium.

    Attributes:
        log: what the page has written to its console, and errors of the browser about it.
    """

    def __init__(self, profile):
        self.log = []
        self._number, self._session, self._buffer = 0, None, b""
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()

        def connect():  # Chromium reads commands from descriptor 3 and answers at 4
            os.setsid()
            spare = [os.dup2(end, 100 + place) for place, end in enumerate((to_browser, from_browser))]
            for place, end in enumerate(spare):
                os.dup2(end, 3 + place, inheritable=True)

        command = [CHROMIUM, *_FLAGS, f"--user-data-dir={profile}", "about:blank"]
        # Without close_fds: Python's own descriptors are not inherited anyway, and 3 and 4 have to be.
        self._process = subprocess.Popen(
            command,
            preexec_fn=connect,
            close_fds=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def close(self):
        """Ends Chromium and its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._read)
        os.close(self._write)

    def call(self, method, **parameters):
        """Sends a command and returns its result."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            command["sessionId"] = self._session
        os.write(self._write, json.dumps(command).encode() + b"\0")
        deadline = time.monotonic() + _DEADLINE
        while time.monotonic() < deadline:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                return answer["result"]
        raise TimeoutError(method)

    def _next(self):
        while b"\0" not in self._buffer:
            part = os.read(self._read, 1 << 20)
            assert part, "Chromium ended"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(message)
        method, parameters = message.get("method"), message.get("params", {})
        if method == "Runtime.consoleAPICalled":
            self.log.append(" ".join(str(each.get("value")) for each in parameters["args"]))
        elif method == "Runtime.exceptionThrown":
            details = parameters["exceptionDetails"]
            self.log.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Log.entryAdded":
            self.log.append(parameters["entry"]["text"])
        return message

    def open(self, url, width=1280, height=900, dark=False):
        """Loads a page in a window of some size, and waits until it is there with all of its script run."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)
        self.resize(width, height)
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=url)
        self.until("location.href !== 'about:blank' && document.readyState === 'complete'")

    def resize(self, width, height):
        """Gives the window another size."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def until(self, expression):
        """Waits until an expression holds."""
        deadline = time.monotonic() + _DEADLINE
        while not self.run(expression):
            assert time.monotonic() < deadline, expression
            time.sleep(0.02)

    def run(self, expression):
        """Returns the value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key):
        """Presses a key of `KEYS`, or types a letter."""
        code = KEYS.get(key)
        what = {"key": key, "windowsVirtualKeyCode": code} if code else {"key": key, "text": key}
        if key == "Enter":
            what["text"] = "\r"
        self.call("Input.dispatchKeyEvent", type="keyDown", **what)
        self.call("Input.dispatchKeyEvent", type="keyUp", **what)

    def type(self, text):
        """Types letters into what has the focus."""
        for letter in text:
            self.press(letter)

    def point(self, x, y, click=False):
        """Moves the mouse to a place of the window."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        if click:
            for kind in ("mousePressed", "mouseReleased"):
                self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def screenshot(self, path, whole=True):
        """Writes a PNG file of the page or of the window."""
        clip = {}
        if whole:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            clip = {"captureBeyondViewport": True, "clip": {"x": 0, "y": 0, "scale": 1} | size}
            clip["clip"] = {key: clip["clip"][key] for key in ("x", "y", "width", "height", "scale")}
        data = self.call("Page.captureScreenshot", format="png", **clip)["data"]
        path.write_bytes(base64.b64decode(data))


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """A running Chromium; tests that want it are skipped where there is none."""
    if CHROMIUM is None:
        pytest.skip("no chromium on PATH to open the page with")
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.fixture
def browser(chromium):
    """Chromium with an empty log."""
    chromium.log.clear()
    return chromium
