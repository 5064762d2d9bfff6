"""What a run came to, from the real console: its films play in the page, and its report is a file on the disk."""

import json

import numpy as np
import pytest
from chromium_page import wait_for

from actors.video import TrialVideo
from serl_core.data.metrics_file import MetricsWriter
from tests.actors.blank_frame import FRAME
from tests.actors.console.rig import TOKEN, console

REPORT_S = 90.0  # it is drawn in a process of its own
EVALUATION = {
    "task": "ram_insertion",
    "successes": 1,
    "trials": 2,
    "success_rate": 0.5,
    "wilson_low": 0.1,
    "wilson_high": 0.9,
    "median_cycle_s": 1.5,
    "p90_cycle_s": 2.0,
}
EPISODE = {
    "env_steps": 80,
    "episode": 4,
    "session": "5e55",
    "is_success": True,
    "length_steps": 80,
    "intervention_rate": 0.25,
    "intervention_rate_20": 0.25,
    "end": "success",
    "success_20": 0.5,
    "autonomous_success_20": 0.5,
}


@pytest.fixture
def results(page, tmp_path):
    """The page of a run that was evaluated, with a film of a trial; and the run's folder."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "eval.json").write_text(json.dumps(EVALUATION))
    with TrialVideo(run / "videos" / "trial-001-success.mp4", fps=10.0) as film:
        for step in range(30):
            image = np.full((96, 96, 3), 8 * step, np.uint8)
            film.add(FRAME._replace(images={"wrist": image}, step=step))
    with MetricsWriter(run / "metrics.jsonl") as metrics:
        metrics.write("episode", EPISODE)
    with console(tmp_path) as served:
        page.open(f"{served.url}/#token={TOKEN}")
        wait_for(lambda: page.text("#run") != "no run", "the console")
        page.click("#tab-compare")
        page.wait("#compare", "1 of 2 (50 %)")
        yield page, run


def test_a_film_of_a_trial_plays_to_its_end(results):
    page, _ = results
    page.run("[...document.querySelectorAll('#compare button')].find((b) => b.textContent.startsWith('trial')).click()")
    film = "return document.querySelector('#compare video')"
    wait_for(lambda: page.run(f"{film}.currentTime") > 0, "a film that moves")
    assert page.run(f"{film}.videoWidth") > 0
    assert page.is_shown("#compare video")
    assert page.run(f"{film}.duration") == pytest.approx(3.0, abs=0.2)
    wait_for(lambda: page.run(f"{film}.ended"), "the film's end")
    assert page.run(f"{film}.error") is None
    assert page.errors() == []


def test_the_report_is_downloaded_as_a_file_that_stands_alone(results, tmp_path):
    page, run = results
    downloads = tmp_path / "downloads"
    page.driver.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(downloads), "eventsEnabled": False}
    )
    page.click("#report")
    wait_for(lambda: list(downloads.glob("*.html")), "the report on the disk", REPORT_S)
    (report,) = downloads.glob("*.html")
    text = report.read_text()
    assert text.startswith("<!doctype html>")
    assert text == (run / "report.html").read_text()
    assert 'src="http' not in text  # its pictures are inside
    assert page.errors() == []
