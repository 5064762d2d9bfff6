"""What the console tells of a run: its curves, its episodes, its results. The run may not have begun."""

import json
import logging

import numpy as np
import pytest

from actors.console.thumbnails import last_picture, media_type
from serl_core.data.episode_file import save_episode
from serl_core.data.metrics_file import MetricsWriter
from serl_core.testing.episodes import make_episode
from tests.actors.console.rig import console

EPISODE = {
    "env_steps": 80,
    "episode": 4,
    "session": "5e55",
    "is_success": True,
    "length_steps": 80,
    "intervention_rate": 0.25,
    "end": "success",
    "success_20": 0.5,
}


@pytest.fixture
def rig(tmp_path):
    """A console of a run that has not begun: (served, folder of the run)."""
    with console(tmp_path) as served:
        yield served, tmp_path / "run"


def test_records_are_told_as_they_come_and_a_reload_loses_none(rig):
    served, run = rig
    assert served.get("/history").json() == {"run": "run", "series": {}}
    with served.page() as page, MetricsWriter(run / "metrics.jsonl") as metrics:
        page.hear("hello")
        for step in range(1, 4):
            metrics.write("update", {"env_steps": step, "q_mean": 0.5 * step})
        told = []
        while len(told) < 3:
            told += page.hear("metrics")["records"]
        assert [record["q_mean"] for record in told] == [0.5, 1.0, 1.5]
        assert page.hear("state", lambda state: state["ages"]["learner_s"] is not None)["missing"]["learner"] is None
    history = served.get("/history?since=0&points=600").json()["series"]
    assert history["q_mean"]["x"] == [1.0, 2.0, 3.0]
    assert history["q_mean"]["mean"] == history["q_mean"]["min"] == [0.5, 1.0, 1.5]


def test_what_was_there_before_the_console_is_history_and_no_news(tmp_path):
    (tmp_path / "run").mkdir()
    with MetricsWriter(tmp_path / "run" / "metrics.jsonl") as metrics:
        metrics.write("update", {"env_steps": 1, "q_mean": 1.0})
        with console(tmp_path) as served, served.page() as page:
            assert served.get("/history").json()["series"]["q_mean"]["mean"] == [1.0]
            page.hear("hello")
            metrics.write("update", {"env_steps": 2, "q_mean": 2.0})
            assert [record["q_mean"] for record in page.hear("metrics")["records"]] == [2.0]


def test_an_actors_records_are_curves_too_without_their_lists(rig):
    served, run = rig
    with served.page() as page, MetricsWriter(run / "actor.jsonl") as actor:
        page.hear("hello")
        actor.write("actor", {"env_steps": 10, "loop_hz": 9.98, "late_ms": [0.1, 0.2]})
        (record,) = page.hear("metrics")["records"]
    assert "late_ms" not in record
    assert served.get("/history").json()["series"]["loop_hz"]["mean"] == [9.98]


def test_numbers_that_are_none_become_null_and_not_an_error(rig):
    served, run = rig
    with served.page() as page:
        page.hear("hello")
        (run / "metrics.jsonl").write_text('{"kind": "update", "time": 1, "env_steps": 1, "q_mean": NaN, "ok": 1}\n')
        (record,) = page.hear("metrics")["records"]
        assert record["q_mean"] is None
    assert set(served.get("/history").json()["series"]) == {"ok"}


@pytest.mark.parametrize("query", ["points=1", "points=100000", "points=x", "since=x", "since="])
def test_a_wrong_question_for_the_history_is_refused(rig, query):
    assert rig[0].get(f"/history?{query}").status_code == 422


def test_other_runs_are_there_to_compare_with(tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    with MetricsWriter(other / "metrics.jsonl") as metrics, console(tmp_path, other_runs={"other": other}) as served:
        assert served.get("/runs").json() == {"runs": ["run", "other"], "current": "run"}
        for step in (1, 2):  # it may go on, too
            metrics.write("update", {"env_steps": step, "q_mean": 1.0})
            assert len(served.get("/history?run=other").json()["series"]["q_mean"]["x"]) == step
        assert served.get("/history?run=unknown").status_code == 404


def test_an_episode_is_told_with_the_id_of_its_thumbnail_and_listed_newest_first(rig):
    served, run = rig
    with served.page() as page, MetricsWriter(run / "metrics.jsonl") as metrics:
        page.hear("hello")
        metrics.write("episode", EPISODE)
        metrics.write("episode", EPISODE | {"episode": 5, "end": "time_limit", "is_success": False})
        told = page.hear("episode")
    assert told["id"] == "5e55-4"
    assert told["label"] is None
    assert told["has_thumbnail"] is False  # this task has no camera
    listed = served.get("/episodes").json()
    assert [episode["id"] for episode in listed["episodes"]] == ["5e55-5", "5e55-4"]
    assert listed["episodes"][0]["end"] == "time_limit"
    assert listed["can_undo"] is False


def test_a_record_that_is_none_of_ours_stops_nothing(rig):
    served, run = rig
    with served.page() as page:
        page.hear("hello")
        odd = [{"kind": "episode"}, {"kind": 3, "time": "now"}, EPISODE | {"kind": "episode", "session": None}, {}]
        (run / "metrics.jsonl").write_text(
            "".join(json.dumps(record) + "\n" for record in [*odd, EPISODE | {"kind": "episode"}])
        )
        assert page.hear("episode")["id"] == "5e55-4"
    assert len(served.get("/episodes").json()["episodes"]) == 1


def test_the_thumbnail_is_the_last_frame_that_was_logged(rig):
    served, run = rig
    steps = make_episode(session="5e55", episode=4, frames=("side", "wrist"))
    save_episode(run / "experience" / "episodes" / "5e55-000004.safetensors", steps, task_digest="x")
    last = steps[-1].next_observation.frames
    answer = served.get("/episodes/5e55-4/thumbnail.jpg")
    assert answer.content == last["side"].tobytes()
    assert answer.headers["content-type"] == "image/jpeg"
    assert served.get("/episodes/5e55-4/thumbnail.jpg?camera=wrist").content == last["wrist"].tobytes()


def test_a_picture_says_what_it_is():
    assert media_type(b"\x89PNG\r\n\x1a\nrest") == "image/png"
    assert media_type(b"\xff\xd8\xff") == "image/jpeg"


def test_an_episode_without_pictures_or_with_a_broken_file_has_no_thumbnail(rig, tmp_path):
    served, run = rig
    path = run / "experience" / "episodes" / "5e55-000004.safetensors"
    save_episode(path, make_episode(session="5e55", episode=4), task_digest="x")
    assert served.get("/episodes/5e55-4/thumbnail.jpg").status_code == 404
    path.write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{broken")
    assert last_picture(path) is None
    assert last_picture(tmp_path / "none") is None


@pytest.mark.parametrize(
    "name",
    ["..-4", "5e55", "5e55-", "5e55-x", "5e55-1e3", "a%2fb-1", "..%2f..%2fx-1", "5e55--1", "5e55-٣", "x" * 100 + "-1"],
)
def test_an_id_that_is_none_leads_to_no_file(rig, name):
    assert rig[0].get(f"/episodes/{name}/thumbnail.jpg").status_code == 404


@pytest.mark.parametrize("camera", ["..", "a/b", "", "x" * 40])
def test_a_camera_that_is_none_leads_to_no_file(rig, camera):
    served, run = rig
    steps = make_episode(session="5e55", episode=4, frames=("wrist",))
    save_episode(run / "experience" / "episodes" / "5e55-000004.safetensors", steps, task_digest="x")
    assert served.get("/episodes/5e55-4/thumbnail.jpg", params={"camera": camera}).status_code == 404


def test_evaluation_and_clips_are_listed_and_clips_can_be_fetched_in_part(rig):
    served, run = rig
    assert served.get("/evaluation").json() == {"evaluation": None, "clips": []}
    (run / "eval.json").write_text(json.dumps({"successes": 9, "trials": 10, "wilson_low": 0.6, "wilson_high": 0.98}))
    (run / "videos").mkdir()
    (run / "videos" / "trial-001.mp4").write_bytes(b"0123456789")
    found = served.get("/evaluation").json()
    assert found["evaluation"]["wilson_low"] == 0.6
    assert found["clips"] == ["trial-001"]
    clip = served.get("/clips/trial-001.mp4", headers={"Range": "bytes=2-4"})
    assert (clip.status_code, clip.content, clip.headers["content-type"]) == (206, b"234", "video/mp4")
    for name in ("trial-002", "..%2feval", "%2e%2e", "a b"):
        assert served.get(f"/clips/{name}.mp4").status_code == 404


def test_a_broken_evaluation_is_none(rig):
    served, run = rig
    (run / "eval.json").write_text("{")
    assert served.get("/evaluation").json()["evaluation"] is None


def test_the_report_is_written_on_request_and_comes_as_a_file(rig, caplog):
    caplog.set_level(logging.ERROR)
    served, run = rig
    refused = served.get("/report")
    assert refused.status_code == 409
    assert "a run's folder has one after training has begun" in refused.json()["detail"]
    with MetricsWriter(run / "metrics.jsonl") as metrics:
        metrics.write("episode", EPISODE | {"autonomous_success_20": 0.5, "intervention_rate_20": np.pi / 4})
    report = served.client.get("/report", timeout=120.0)
    assert report.status_code == 200
    assert 'attachment; filename="run-report.html"' in report.headers["content-disposition"]
    assert report.text.startswith("<!doctype html>")
