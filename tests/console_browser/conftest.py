"""A headless Chromium, started once for all tests of the page, and a console that a test can talk through."""

import shutil

import pytest
from chromium_page import TIMEOUT_S, Page
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from stub_console import StubConsole

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-features=OptimizationHints,MediaRouter,Translate",
    "--window-size=1366,768",
)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """The browser. Tests share it, each with a page of its own."""
    binary, tool = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or tool is None:
        pytest.skip("no browser: install Debian's chromium and chromium-driver")
    options = Options()
    options.binary_location = binary
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(tool))
    driver.set_script_timeout(TIMEOUT_S)
    yield driver
    driver.quit()


@pytest.fixture
def page(chromium):
    """The tab; what a test changed about it is put back."""
    first = chromium.current_window_handle
    chromium.get_log("browser")
    yield Page(chromium)
    for handle in chromium.window_handles:
        if handle != first:
            chromium.switch_to.window(handle)
            chromium.close()
    chromium.switch_to.window(first)
    chromium.get("about:blank")
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    chromium.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


@pytest.fixture
def stub():
    """A console that does as it is told."""
    console = StubConsole()
    console.start()
    yield console
    console.end()
