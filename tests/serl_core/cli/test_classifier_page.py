"""`serl classifier record` with a person at the console's page, over real sockets."""

import time

import numpy as np
import pytest

from serl_core.cli.main import main
from serl_core.data.labelled_frames import count_labels, load_folders
from serl_core.operator.messages import Control, Label, RecordProgress, Resume, StepReport
from serl_core.testing.fakes import FakeRobot
from tests.actors.fake_console import PATIENCE_S, FakeConsole, teleop
from tests.actors.teleop.fake_hidapi import eventually
from tests.actors.test_operator_access import Person
from tests.serl_core.cli.test_classifier_buttons import DOWN, TASK, RealArm

PUSH_DOWN = (0.0, 0.0, 0.4, 0.0, 0.0, 0.0)  # the tool points down


@pytest.fixture
def task(tmp_path):
    path = tmp_path / "small_task.py"
    path.write_text(TASK)
    return str(path)


@pytest.fixture
def arm(monkeypatch):
    arm = RealArm((0.5, 0.0, 0.12, *DOWN), (0.5, 0.0, 0.058, *DOWN), is_lockstep=False)
    monkeypatch.setattr("serl_core.robots.http_client.HttpRobot", lambda *_, **__: arm)
    monkeypatch.setattr("actors.frames_at_page.LET_GO_S", 0.0)
    return arm


def record(task, tmp_path, *options):
    asked = ["--positives", "8", "--negatives", "12", "--out", str(tmp_path / "frames"), *options]
    return main(["classifier", "record", "--task", task, *asked])


class Page:
    """Repeats what a person holds at the page about 30 times a second: a label, and the controls."""

    def __init__(self, console, *, steers):
        self._console = console
        self._steers = steers

    def hold(self, label, until):
        """Hold a label until it is enough; a slow machine may have let go for us: then resume."""
        give_up_s = time.monotonic() + PATIENCE_S
        while not until():
            assert time.monotonic() < give_up_s
            if any(isinstance(said, StepReport) and said.control is Control.PAUSED for said in self._console.listen()):
                self._console.say(Resume(operator="ann"))
            self._console.say(Label(operator="ann", label=label))
            if self._steers:
                self._console.say(teleop(PUSH_DOWN))
            time.sleep(1 / 30)

    def negatives(self):
        """Return how many are told to be recorded."""
        return max((said.negatives for said in self._console.heard if isinstance(said, RecordProgress)), default=0)


@pytest.mark.parametrize("moves", ["browser", "hand"])
def test_a_person_at_the_page_labels_frames_and_sees_how_many_there_are(task, arm, tmp_path, moves):
    file, heard = tmp_path / "run" / "recorder.operator", []

    def operate():
        eventually(file.exists)
        with FakeConsole(file) as console:
            console.await_control(Control.PAUSED)
            assert "step" not in arm.calls  # nothing moves before a person comes
            console.say(Resume(operator="ann"))
            page = Page(console, steers=moves == "browser")
            page.hold("failure", lambda: page.negatives() >= 20)  # those just before a success are not trusted
            page.hold("success", lambda: not file.exists())
            heard.extend(console.heard)

    with Person(operate):
        assert record(task, tmp_path, "--label", "page", "--teleop", moves, "--run", str(tmp_path / "run")) == 0
    episodes = load_folders([tmp_path / "frames"])
    positives, negatives = count_labels(episodes)
    assert positives >= 8
    assert negatives >= 12
    told = [said for said in heard if isinstance(said, RecordProgress)]
    assert {(said.what, said.wanted, said.negatives_wanted) for said in told} == {("classifier", 8, 12)}
    assert any(said.control is Control.HUMAN for said in heard if isinstance(said, StepReport))
    moved_m = max(np.ptp(frames.tcp_pose[:, 2]) for frames in episodes)
    assert (moved_m > 0.005) == (moves == "browser")
    assert not file.exists()
    assert arm.calls[-1] == "close"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--label", "page"], "--run: goes with --label page or --teleop browser"),
        (["--teleop", "browser"], "--run: goes with --label page or --teleop browser"),
        (["--run", "somewhere"], "--run: goes with --label page or --teleop browser"),
    ],
)
def test_the_page_and_its_folder_go_together(options, told, task, arm, tmp_path, capsys):
    assert record(task, tmp_path, *options) == 2
    assert told in " ".join(capsys.readouterr().err.split())
    assert arm.calls == []


@pytest.mark.parametrize(
    ("clock", "moves", "told"),
    [
        ("lockstep", "browser", "--teleop browser: the robot 'fake' runs in lockstep, faster than a person"),
        ("real_time", "hand", "--teleop hand: nobody can take a simulated arm by its tool"),
    ],
)
def test_a_simulated_arm_needs_real_time_and_somebody_who_moves_it(
    clock, moves, told, task, arm, tmp_path, monkeypatch, capsys
):
    simulated = FakeRobot((0.5, 0.0, 0.12, *DOWN), (0.5, 0.0, 0.058, *DOWN), is_lockstep=clock == "lockstep")
    monkeypatch.setattr("serl_core.robots.http_client.HttpRobot", lambda *_, **__: simulated)
    assert record(task, tmp_path, "--label", "page", "--teleop", moves, "--run", str(tmp_path)) == 2
    assert told in " ".join(capsys.readouterr().err.split())
    assert set(simulated.calls) == {"connect", "close"}
