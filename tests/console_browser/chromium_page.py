"""The page in a tab of a real browser: what a person sees of it and does to it."""

import contextlib
import time
from collections.abc import Callable

TIMEOUT_S = 20.0


def wait_for(condition: Callable[[], object], what: str, timeout_s: float = TIMEOUT_S) -> object:
    """Wait until `condition` is true and return its value."""
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        with contextlib.suppress(LookupError):
            if value := condition():
                return value
        time.sleep(0.02)
    raise AssertionError(f"{what}: not within {timeout_s:g} s")


class Page:
    """The page in one tab of the browser, by what a person sees and does."""

    def __init__(self, driver) -> None:
        self.driver = driver

    def open(self, link: str) -> "Page":
        """Open a link in a tab that knows nothing: no token, no name, no settings."""
        self.driver.get("about:blank")
        self.driver.execute_cdp_cmd(
            "Storage.clearDataForOrigin", {"origin": link.split("/#")[0], "storageTypes": "all"}
        )
        self.driver.get(link)
        return self

    def run(self, script: str, *args):
        """Run a script in the page and return what it returns."""
        return self.driver.execute_script(script, *args)

    def call(self, script: str, *args):
        """Run an asynchronous script, the body of an async function, and return its result."""
        body = f"const done = arguments[arguments.length - 1]; (async (...args) => {{ {script} }})(...arguments).then("
        return self.driver.execute_async_script(body + "done, (error) => done(`failed: ${error}`));", *args)

    def text(self, css: str) -> str:
        return self.run("return document.querySelector(arguments[0])?.textContent ?? ''", css)

    def has(self, css: str) -> bool:
        return self.run("return document.querySelector(arguments[0]) !== null", css)

    def is_shown(self, css: str) -> bool:
        return self.run("return document.querySelector(arguments[0])?.checkVisibility() ?? false", css)

    def click(self, css: str) -> None:
        self.run("document.querySelector(arguments[0]).click()", css)

    def wait(self, css: str, text: str) -> None:
        """Wait until an element has a text in it."""
        wait_for(lambda: text in self.text(css), f"{text!r} in {css}, which says {self.text(css)!r}")

    def wait_connected(self) -> "Page":
        """Wait until somebody is in control, by what the page says."""
        nobody = ("", "connecting", "unknown", "no connection")
        try:
            wait_for(lambda: self.text("#control") not in nobody, "a connection")
        except AssertionError as error:
            says = " | ".join(self.text(css) for css in ("#control", "#ages", "#banner", "#notices"))
            raise AssertionError(f"{error}: {says}; {self.errors()}") from None
        return self

    def key_down(self, code: str, key: str, **more) -> None:
        self._key("rawKeyDown", code, key, **more)

    def key_up(self, code: str, key: str, **more) -> None:
        self._key("keyUp", code, key, **more)

    def press(self, code: str, key: str) -> None:
        self.key_down(code, key)
        self.key_up(code, key)

    def _key(self, kind: str, code: str, key: str, **more) -> None:
        number = {"Space": 32, "ArrowUp": 38, "ShiftLeft": 16}.get(code, ord(key[0].upper()))
        event = {"type": kind, "code": code, "key": key, "windowsVirtualKeyCode": number, **more}
        self.driver.execute_cdp_cmd("Input.dispatchKeyEvent", event)

    def errors(self) -> list[str]:
        """What went wrong in the page, by its log."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]
