"""Correcting past episodes from the page, and taking that back."""

import pytest

from serl_core.data.metrics_file import MetricsWriter
from serl_core.data.relabels import RelabelFile
from tests.actors.console.rig import console

EPISODE = {"env_steps": 80, "episode": 4, "session": "5e55", "is_success": True, "length_steps": 80, "end": "success"}


@pytest.fixture
def rig(tmp_path):
    """A console of a run with one episode, and two pages: (served, run, the two pages)."""
    with console(tmp_path) as served, MetricsWriter(tmp_path / "run" / "metrics.jsonl") as metrics:
        metrics.write("episode", EPISODE)
        with served.page("anna") as one, served.page("bert") as two:
            one.hear("hello")
            two.hear("hello")
            yield served, tmp_path / "run", one, two


def test_a_correction_is_in_the_runs_file_and_told_to_all(rig):
    served, run, one, two = rig
    two.hear("state", lambda _: served.get("/episodes").json()["episodes"])
    one.say("relabel", session="5e55", episode=4, label="failure")
    for page in (one, two):
        told = page.hear("episode", lambda episode: episode["label"] is not None)
        assert (told["id"], told["label"], told["end"]) == ("5e55-4", "failure", "success")
    (line,) = RelabelFile(run).read()
    assert (line.session, line.episode, line.label, line.operator) == ("5e55", 4, "failure", "anna")
    listed = served.get("/episodes").json()
    assert listed["episodes"][0]["label"] == "failure"
    assert listed["can_undo"] is True


def test_a_correction_can_be_taken_back_by_anybody(rig):
    served, run, one, two = rig
    two.hear("state", lambda _: served.get("/episodes").json()["episodes"])
    one.say("relabel", session="5e55", episode=4, label="failure")
    one.hear("episode", lambda episode: episode["label"] == "failure")
    two.say("undo")
    assert one.hear("episode", lambda episode: episode["label"] is None)["id"] == "5e55-4"
    assert RelabelFile(run).label_of("5e55", 4) is None
    assert served.get("/episodes").json()["can_undo"] is False


def test_taking_back_what_there_is_not_is_told(rig):
    _, _, one, _ = rig
    one.say("undo")
    assert "no correction to take back" in one.hear("notice")["text"]


@pytest.mark.parametrize("label", ["discard", "", None])
def test_only_success_and_failure_are_labels_of_a_past_episode(rig, label):
    _, run, one, _ = rig
    one.say("relabel", session="5e55", episode=4, label=label)
    assert "cannot read" in one.hear("notice")["text"]
    assert RelabelFile(run).read() == []


def test_corrections_outlive_the_console(tmp_path):
    (tmp_path / "run").mkdir()
    with MetricsWriter(tmp_path / "run" / "metrics.jsonl") as metrics:
        metrics.write("episode", EPISODE)
    RelabelFile(tmp_path / "run").add("5e55", 4, "failure")
    with console(tmp_path) as served:
        assert served.get("/episodes").json()["episodes"][0]["label"] == "failure"
