"""The report in a real browser: whole, offline, quiet, and usable on a desktop and on a phone."""

import pytest
from support import browser

from shest.score.evaluation import Evaluation

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def driver():
    with browser.running() as driver:
        yield driver


def open_at(driver, page, width):
    browser.resize(driver, width)
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
