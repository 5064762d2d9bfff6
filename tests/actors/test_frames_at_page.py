"""Frames recorded with people at the page, on the kinematic arm; time is what the tests say."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from actors.classifier_data import LET_GO_S, FrameRecorder, Wanted, record_frames
from actors.frames_at_page import PageFrames
from actors.operator_desk import OperatorDesk
from actors.page_label import PageLabel
from actors.step_reports import StepReports
from examples.ram_insertion import CONFIG, TASK
from serl_core.clock import ManualClock
from serl_core.data.labelled_frames import count_labels, load_folders
from serl_core.errors import ResetError, RobotAway, RobotError
from serl_core.operator.messages import Control, Label, Pause, RecordProgress, Resume
from serl_core.robots.messages import Mode
from serl_core.testing.fakes import FakeRobot
from tests.actors.fakes import ListedTeleop, command
from tests.actors.test_classifier_data import PoseVision
from tests.actors.test_operator_desk import Everybody

STEPS = 10
SHORT = replace(TASK, config=replace(CONFIG, time_limit_steps=STEPS))


class Rig:
    """People act `before` the step with that number, counted over all episodes; `waits` ends what waits."""

    def __init__(self, *, teleop=None, is_page=True, waits=lambda rig: None):
        self.clock = ManualClock(100.0)
        self.robot = FakeRobot(CONFIG.reset.pose, CONFIG.target_pose)
        self.robot.connect()
        self.labels = PageLabel(self.clock) if is_page else None
        self.held = {}  # button by step
        self.before = {}
        self.steps = 0
        self.sleeps = []
        self._waits = waits
        recorder = FrameRecorder(SHORT, self.robot, PoseVision(self.robot), self._label, is_lockstep=True)
        self.desk = OperatorDesk(now=self.clock, take_label=self.labels and self.labels.receive)
        self.desk.listeners = self.everybody = Everybody()
        reports = StepReports(self.desk, recorder, "s", now=self.clock)
        self.episodes = PageFrames(
            recorder,
            self.desk,
            reports,
            Wanted(5, 20),
            session="s",
            seed=0,
            labels=self.labels,
            teleop=teleop,
            now=self.clock,
            sleep=self._slept,
        )

    def say(self, message):
        return list(self.desk.receive(message, self.clock()))

    def progress(self):
        return [(m.kept, m.negatives) for m in self.everybody.told if isinstance(m, RecordProgress)]

    def _label(self, state):
        for people in self.before.pop(self.steps, ()):
            people()
        if self.steps in self.held:
            self.say(Label(operator="ann", label=self.held[self.steps]))
        self.steps += 1
        label = self.labels(state) if self.labels else True
        self.clock.advance(0.5)  # more than a label is fresh
        return label

    def _slept(self, duration_s):
        self.sleeps.append(duration_s)
        assert len(self.sleeps) < 2000, "it waits for ever"
        self.clock.advance(duration_s)
        self._waits(self)


def hold(**steps):
    """Return the button held in each step: success=range, failure=range."""
    return {step: label for label, held in steps.items() for step in held}


def test_frames_are_kept_as_the_page_has_labelled_them_and_the_others_left_out():
    rig = Rig()
    rig.held = hold(failure=range(1, 5), success=range(6, 9))
    frames = rig.episodes(False)
    np.testing.assert_array_equal(frames.step, [1, 2, 3, 4, 6, 7, 8])
    np.testing.assert_array_equal(frames.is_success, [False] * 4 + [True] * 3)
    assert rig.progress()[-1] == (3, 4)


def test_a_recording_tells_its_progress_to_both_goals_while_it_runs(tmp_path):
    rig = Rig()
    rig.held = {step: "success" if step % 5 == 4 else "failure" for step in range(60)}
    count = record_frames(rig.episodes, Wanted(5, 20), tmp_path, saved=rig.episodes.saved)
    assert count == count_labels(load_folders([tmp_path])) == (6, 24)
    told = rig.progress()
    assert (told[0], told[-1]) == ((0, 0), count)
    assert told[1:6] == [(0, 1), (0, 2), (0, 3), (0, 4), (1, 4)]
    assert told == sorted(told, key=sum)


def test_each_step_is_reported_with_who_steers_and_the_arm_waits_for_a_person_first():
    rig = Rig(waits=lambda rig: rig.say(Resume(operator="ann")) if len(rig.sleeps) == 2 else None)
    rig.desk.pause("not begun")
    rig.held = hold(failure=[0])
    rig.episodes(False)
    reports = rig.everybody.reports
    assert [report.control for report in reports[:2]] == [Control.PAUSED, Control.RESET]
    steps = [report for report in reports if report.control is Control.HUMAN]
    assert [(report.session, report.episode, report.step) for report in steps] == [
        ("s", 0, step) for step in range(1, STEPS + 1)
    ]
    assert rig.sleeps[2:] == [LET_GO_S]  # hands are on the arm: it says so before it moves
    assert any("Let go" in notice for notice in rig.everybody.notices)


def test_whoever_steers_has_no_hands_on_the_arm_and_is_not_waited_for():
    rig = Rig(teleop=ListedTeleop([command(1.0)] * STEPS))
    rig.held = hold(failure=range(STEPS))
    frames = rig.episodes(False)
    assert np.diff(frames.tcp_pose[:, 2]).max() < 0.0  # down, along the tool
    assert rig.sleeps == []


def test_a_pause_ends_the_episode_with_the_frames_so_far_and_the_arm_stays():
    rig = Rig(waits=lambda rig: rig.say(Resume(operator="ann")) if len(rig.sleeps) == 5 else None)
    rig.held = hold(failure=range(STEPS))
    rig.before[3] = [lambda: rig.say(Pause(operator="ann"))]
    frames = rig.episodes(False)
    assert frames.is_success.size == 4
    assert rig.robot.state().reference_pose == pytest.approx(rig.robot.state().tcp_pose)
    before = rig.robot.calls.count("step")
    rig.held = hold(failure=range(99))
    assert rig.episodes(False).is_success.size == STEPS
    assert rig.robot.calls.count("step") == before + STEPS


def test_a_discarded_episode_ends_and_leaves_no_frame():
    rig = Rig()
    rig.held = hold(success=range(STEPS)) | {4: "discard"}
    assert rig.episodes(False) is None
    assert rig.steps == 5
    assert any("discarded" in notice for notice in rig.everybody.notices)


def test_the_arm_does_not_go_on_by_itself_when_nobody_labels_anything():
    rig = Rig()
    assert rig.episodes(False) is None
    assert rig.desk.is_paused
    assert any("nobody has labelled a frame" in notice for notice in rig.everybody.notices)


def test_without_the_page_s_labels_another_one_decides():
    rig = Rig(is_page=False, teleop=ListedTeleop([command(0.0)] * STEPS))
    assert rig.episodes(False).is_success.all()
    assert not rig.desk.is_paused


def test_a_stopped_arm_costs_the_episode_and_not_the_recording():
    """It ended the recording; now a person resumes the robot, and then the recorder."""

    def waits(rig):
        if len(rig.sleeps) == 4:
            rig.robot.resume()

    rig = Rig(waits=waits, teleop=ListedTeleop([command(0.0)] * 99))
    rig.held = hold(success=range(99))
    rig.before[3] = [lambda: rig.robot.fail(Mode.STOPPED, "operator")]
    assert rig.episodes(False) is None
    controls = [report.control for report in rig.everybody.reports]
    assert controls[-1] is Control.STOPPED
    assert rig.desk.is_paused
    rig.say(Resume(operator="ann"))
    assert rig.episodes(False).is_success.size == STEPS


def silence(rig, status, kind=RobotAway):
    """Return what makes the arm silent, and what lets it answer again."""
    state, step = rig.robot.state, rig.robot.step

    def refuse(*_):
        raise kind("the backend has gone quiet", status=status)

    def fall_silent():
        rig.robot.state = rig.robot.step = refuse

    def answer():
        rig.robot.state, rig.robot.step = state, step

    return fall_silent, answer


@pytest.mark.parametrize("status", [0, 503, 409])
def test_an_arm_that_is_silent_for_a_moment_costs_the_episode_and_not_the_recording(status):
    """A robot server on a busy machine ended the recording: the state was old once; and so did one started anew."""
    rig = Rig(waits=lambda rig: answer() if len(rig.sleeps) == 20 else None, teleop=ListedTeleop([command(0.0)] * 99))
    fall_silent, answer = silence(rig, status)
    rig.held = hold(success=range(99))
    rig.before[3] = [fall_silent]
    assert rig.episodes(False) is None
    assert any("not kept: the backend has gone quiet" in notice for notice in rig.everybody.notices)
    assert rig.desk.is_paused
    assert rig.robot.calls[-2:] == ["close", "connect"]  # a lease of before a restart is worth nothing
    assert Control.WAITING in [report.control for report in rig.everybody.reports]
    rig.say(Resume(operator="ann"))
    assert rig.episodes(False).is_success.size == STEPS


def test_an_arm_that_does_not_arrive_at_its_start_waits_for_a_person(monkeypatch):
    """A move whose answer was lost went on, and refused the next one: that ended the recording."""
    rig = Rig(teleop=ListedTeleop([command(0.0)] * 99))
    rig.held = hold(success=range(99))

    def fails(*_, **__):
        raise ResetError("not at the start pose after 3 tries")

    with monkeypatch.context() as patch:
        patch.setattr("actors.classifier_data.reset_arm", fails)
        assert rig.episodes(False) is None
    assert rig.everybody.notices[0] == "not at the start pose after 3 tries"
    assert rig.desk.is_paused
    rig.say(Resume(operator="ann"))
    assert rig.episodes(False).is_success.size == STEPS


def test_after_a_lost_answer_it_waits_until_the_arm_is_on_no_move_any_more():
    modes = [Mode.MOVING] * 5 + [Mode.HOLD] * 99
    rig = Rig(teleop=ListedTeleop([command(0.0)] * 99))
    fall_silent, answer = silence(rig, 0)
    rig.before[3] = [fall_silent]
    state = rig.robot.state

    def moving():
        return msgspec.structs.replace(state(), mode=modes.pop(0))

    def come_back(rig):
        if len(rig.sleeps) == 3:
            answer()
            rig.robot.state = moving

    rig._waits = come_back
    assert rig.episodes(False) is None
    assert Mode.MOVING not in modes  # it has seen the end of the move
    assert rig.everybody.reports[-1].control is Control.RESET
    assert rig.desk.is_paused


@pytest.mark.parametrize(("kind", "longest_s"), [(RobotAway, 61.0), (RobotError, 0.0)], ids=["gone", "it refuses"])
def test_an_arm_that_does_not_come_back_ends_the_recording(kind, longest_s):
    rig = Rig(teleop=ListedTeleop([command(0.0)] * 99))
    fall_silent, _ = silence(rig, 0, kind)
    rig.before[3] = [fall_silent]
    with pytest.raises(RobotError, match="gone quiet"):
        rig.episodes(False)
    assert sum(rig.sleeps) <= longest_s
