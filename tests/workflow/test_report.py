"""The report in a real browser: whole, offline, quiet, and usable on a desktop and on a phone."""

import os
import shutil
import subprocess

import pytest

from shest.score.evaluation import Evaluation

pytestmark = pytest.mark.browser


def browser_paths() -> tuple[str, str] | None:
    names = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    return names if all(names) else None


@pytest.fixture(scope="module")
def driver():
    if not browser_paths():
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            pytest.skip("needs Chromium with its driver, and only root on Debian may install it here")
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(["apt-get", "update", "-q"], **quiet)
        packages = ["chromium", "chromium-driver"]
        subprocess.run(["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages], **quiet)
        if not browser_paths():
            pytest.skip("Chromium could not be installed")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location, path = browser_paths()
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with webdriver.Chrome(options=options, service=Service(path)) as running:
        yield running


def open_at(driver, page, width):
    driver.set_window_size(width, 900)
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    driver.get(page.as_uri())


@pytest.mark.parametrize("width", [1280, 390])
def test_the_report_is_whole_and_quiet_at_every_width(driver, tiny, width):
    page = tiny / "results/tiny/report.html"
    assert page.stat().st_size < 30e6
    driver.get_log("performance")
    open_at(driver, page, width)
    images = driver.execute_script(
        "return Array.from(document.images).map(i => [i.complete, i.naturalWidth, i.getBoundingClientRect().right])"
    )
    assert len(images) >= 6
    assert all(complete and natural > 0 for complete, natural, _ in images)
    assert all(right <= width + 1 for _, _, right in images), "a picture is wider than the page"
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width + 1
    assert [line for line in driver.get_log("browser") if line["level"] in ("SEVERE", "WARNING")] == []
    requests = [entry["message"] for entry in driver.get_log("performance") if "requestWillBeSent" in entry["message"]]
    assert not [message for message in requests if '"url":"http' in message], "the page asks the network"


def test_the_first_screen_says_what_was_trained_how_good_it_is_and_what_to_doubt(driver, tiny):
    open_at(driver, tiny / "results/tiny/report.html", 1280)
    top = driver.execute_script(
        "return Array.from(document.querySelectorAll('h1, p, .card, .doubts li'))"
        ".filter(e => e.getBoundingClientRect().top < 900).map(e => e.innerText).join('\\n')"
    )
    for phrase in ("cells of sim_train", "strict", "paper", "linear", "sim_lung"):
        assert phrase in top, phrase
    first = driver.execute_script("return document.querySelector('main p').innerText")
    assert first.startswith("The tissue of sim_train, sim_lung is simulated: ")


def test_the_numbers_of_the_report_are_those_of_the_evaluation(driver, tiny):
    open_at(driver, tiny / "results/tiny/report.html", 1280)
    cards = driver.execute_script("return document.querySelector('.cards').innerText")
    table = driver.execute_script("return document.querySelector('#scores ~ .wide').innerText")
    evaluations = [Evaluation.read(path) for path in (tiny / "results/tiny/evaluation").rglob("*.json")]
    assert len(evaluations) == 8
    for scores in evaluations:
        assert f"{scores.types.weighted:.3f}" in table
        assert scores.system in table
        assert scores.system != "shest" or f"{scores.types.weighted:.3f}" in cards


def test_snakemakes_own_report_works(snake, copy_of_tiny, tmp_path):
    target = tmp_path / "snakemake.html"
    snake(copy_of_tiny, "--report", str(target))
    assert target.stat().st_size > 100_000
