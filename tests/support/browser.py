"""A headless Chromium for tests, installed where that can be done."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--enable-unsafe-swiftshader",  # WebGL all the same
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def paths() -> tuple[str, str] | None:
    names = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    return names if all(names) else None


def install() -> None:
    """Install Chromium with its driver, or skip the test."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        pytest.skip("needs Chromium with its driver, and only root on Debian may install it here")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(["apt-get", "update", "-q"], **quiet)
    packages = ["chromium", "chromium-driver"]
    subprocess.run(["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages], **quiet)
    if not paths():
        pytest.skip("Chromium could not be installed")


@contextmanager
def running() -> Iterator:
    """Yield a driver that logs the console and every request."""
    if not paths():
        install()
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location, path = paths()
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with webdriver.Chrome(options=options, service=Service(path)) as driver:
        yield driver


def resize(driver, width: int, height: int = 900) -> None:
    """Give the page a size, of a phone where it is narrow."""
    driver.set_window_size(width, height)
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
    )
