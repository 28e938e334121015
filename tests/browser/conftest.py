"""Chromium, without a window and without a network, and a way to look at a page in it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

BROWSER, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
ARGUMENTS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip
Show = Callable[..., webdriver.Chrome]


def console(browser: webdriver.Chrome) -> list[dict[str, Any]]:
    """What the console says since the last time."""
    entries: list[dict[str, Any]] = browser.get_log("browser")  # type: ignore[no-untyped-call]
    return entries


def started(folder: Path) -> webdriver.Chrome:
    """A new Chromium that keeps its things in *folder*; it ends with the block of `with`."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)  # named, as the driver is: Selenium looks for, and downloads, nothing
    for argument in (*ARGUMENTS, f"--user-data-dir={folder}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service(str(DRIVER)))


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """The browser of all tests. Without one: skipped, in CI failed."""
    if not (BROWSER.exists() and DRIVER.exists()):
        words = f"{BROWSER} and {DRIVER} are needed (Debian: apt install chromium chromium-driver)"
        if os.environ.get("CI"):
            pytest.fail(words)
        pytest.skip(words)
    with started(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


@pytest.fixture
def show(chromium: webdriver.Chrome, tmp_path: Path) -> Iterator[Show]:
    """show(html, width=1280, theme='light', script=True): the browser, with that page; at the end the console is empty."""

    def open_page(html: str, *, width: int = 1280, theme: str = "light", script: bool = True) -> webdriver.Chrome:
        def command(name: str, **values: Any) -> None:
            chromium.execute_cdp_cmd(name, values)

        page = tmp_path / "page.html"
        page.write_text(html, encoding="utf-8")
        command("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
        command("Emulation.setEmulatedMedia", media="", features=[{"name": "prefers-color-scheme", "value": theme}])
        command("Emulation.setScriptExecutionDisabled", value=not script)
        chromium.get(page.as_uri())
        return chromium

    yield open_page
    assert console(chromium) == []
    chromium.get("about:blank")
