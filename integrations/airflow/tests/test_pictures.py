"""Airflow's own pages of our DAGs, in a browser: the grid and the graph; ``SCREENSHOTS=folder`` keeps the pictures."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest

DRIVER, BROWSER = shutil.which("chromedriver"), shutil.which("chromium")
OPTIONS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --window-size=1400,900"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not (DRIVER and BROWSER):
        pytest.skip("chromium and chromedriver are not installed (Debian: chromium, chromium-driver)")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for option in [*OPTIONS.split(), f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"]:
        options.add_argument(option)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def look(airflow, browser, tmp_path):
    """Open a page of Airflow, wait for words, and take a picture."""
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path)

    def look(path, name, *words, script=""):
        browser.get(airflow.url)
        browser.add_cookie({"name": "_token", "value": airflow.token})
        if script:
            browser.execute_script(script)
        browser.get(f"{airflow.url}{path}")
        end = time.monotonic() + 60
        while not all(word in browser.page_source for word in words):
            assert time.monotonic() < end, browser.page_source[-5000:]
            time.sleep(0.5)
        time.sleep(3)  # pictures are drawn after the words
        browser.save_screenshot(str(folder / f"{name}.png"))

    return look


GRAPH = "localStorage.setItem('default_dag_view', JSON.stringify('graph'));"


def test_the_main_job_with_a_task_that_failed_and_a_choice(airflow, home, look):
    """The planes are missing, so its second task fails; the run of a task is the parent of the job's runs."""
    shutil.move(home / "data" / "planes", home / "planes")
    failed = airflow.start("without_planes", conf={"key": "2013-01-03"})
    airflow.ended("without_planes", failed, "failed")
    shutil.move(home / "planes", home / "data" / "planes")
    states = {"hours": "success", "enrich": "failed", "publish": "upstream_failed"}
    assert airflow.states("without_planes", failed) == states | {"announce_daily_flights": "upstream_failed"}
    events = [json.loads(line) for line in (home / "state" / "lineage.jsonl").read_text().splitlines()]
    parents = {e["run"]["facets"]["parent"]["job"]["name"] for e in events if e["job"]["name"] == "daily_flights"}
    assert parents == {"without_planes.hours", "without_planes.enrich"}
    chosen = airflow.start("exclusive_choice", conf={"key": "2013-01-03"})
    airflow.ended("exclusive_choice", chosen)
    look(f"/dags/exclusive_choice/runs/{chosen}", "airflow-grid", "migration_old", "shape_plain")
    look(f"/dags/without_planes/runs/{failed}", "airflow-graph", "at_least(0.5)", script=GRAPH)
