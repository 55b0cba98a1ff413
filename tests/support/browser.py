"""A Chromium that is installed, driven without any download and without a network."""

from __future__ import annotations

import contextlib
import os
import shutil

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


def path_of_chromium() -> str:
    """Return the program's path; skip the test, and say how to get it, where there is none."""
    found = os.environ.get("CNNSCOPE_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), "")
    if not found:
        pytest.skip("no Chromium: apt-get install chromium, or name one in CNNSCOPE_CHROMIUM")
    return found


@contextlib.contextmanager
def chromium():
    """Start a browser."""
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install '.[page]'")
    with playwright.sync_playwright() as driver:
        arguments = ["--no-sandbox"] if not os.getuid() else []  # root has none
        browser = driver.chromium.launch(executable_path=path_of_chromium(), args=arguments)
        yield browser
        browser.close()


class Opened:
    """A page in a browser that has no network; what it says and asks for is noted.

    Attributes:
        page: of Playwright.
        said: messages of the console, and exceptions.
        asked: addresses that were requested, other than the file itself.
        seconds: from the request until everything is drawn and can be used.
    """

    def __init__(self, browser, path, *, size=(1280, 900), theme="light") -> None:
        width, height = size
        self.context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=theme,
            offline=True,
            reduced_motion="reduce",
        )
        self.context.set_default_timeout(5_000)
        self.page = self.context.new_page()
        self.said, self.asked = [], []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.said.append("dialog"), dialog.dismiss()))
        address = path.as_uri()
        self.page.on("request", lambda one: one.url == address or self.asked.append(one.url))
        self.page.goto(address)
        self.page.wait_for_selector("#page[data-ready]")
        self.seconds = self.page.evaluate("performance.now()") / 1000

    def close(self) -> None:
        """Close it; it has said nothing and asked for nothing but its own pictures."""
        self.context.close()
        assert self.said == []
        assert [url for url in self.asked if not url.startswith("blob:")] == []
