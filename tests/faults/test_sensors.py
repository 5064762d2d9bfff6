"""Rows S, and the actor's part of B4 and N4: what cannot be true is not believed, and nothing of it is stored."""

import ast
import dataclasses
import itertools
import logging
import math
import socket
import threading
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

import actors
from actors.absence import PATIENCE_S
from actors.actor import ActorLoop
from actors.cameras.interface import Frame
from actors.cameras.threaded import CameraThread
from actors.cameras.views import check_views
from actors.evaluate import evaluate
from actors.faulty_devices import CameraFailure, FaultyCamera, FaultyPuck, PuckFailure
from actors.frames_to_review import FramesToReview
from actors.operator_desk import OperatorDesk
from actors.record import record
from actors.teleop.arm_puck import ArmPuck
from actors.teleop.puck import SpaceMouseConfig
from actors.teleop.puck_reading import PuckReading
from actors.teleop.puck_thread import PuckThread
from actors.teleop.spacemouse import SpaceMouseTeleop
from actors.vision import CameraVision
from examples.ram_insertion import CONFIG, TASK
from serl_core.agents.classifier_gate import MEASURE, check_quality
from serl_core.clock import ManualClock, Rate
from serl_core.config import ObservationConfig, RewardConfig, RewardKind
from serl_core.data.episode_file import load_episode
from serl_core.envs.arm_env import ArmEnv
from serl_core.envs.resets import start_grid
from serl_core.envs.task import Task
from serl_core.errors import CameraFault, ConfigError, RobotAway
from serl_core.image_config import CameraConfig
from serl_core.operator.messages import Veto
from serl_core.robots.http_client import HttpRobot
from serl_core.statistics import Rate as Measured
from serl_core.testing.fakes import FakeRobot
from serl_core.types import EndReason
from tests.actors.fakes import ListedTeleop, nothing, open_env, towards_target
from tests.faults.fault_rows import row
from tests.faults.robot_rig import served_arm, server_process, until
from tests.serl_core.envs.test_arm_env_vision import FakeVision, task

STATE = FakeRobot(CONFIG.reset.pose, CONFIG.target_pose).state()
PERIOD_S = 1.0 / CONFIG.control_hz
PUSH = np.array([1.0, 0, 0, 0, 0, 0])
FROZEN = [CameraFailure.SAME_BYTES, CameraFailure.SAME_BYTES_NEW_STAMP, CameraFailure.SAME_STAMP]
BROKEN = [failure for failure in CameraFailure if failure not in FROZEN]


# ---- S1, S2: the device in the person's hand


class Puck:
    """A device that is pushed, or not, and reports all the time."""

    def __init__(self):
        self.is_pushed = True
        self._connection = 0
        self._opened_s = 0.0

    def open(self):
        self._connection += 1
        self._opened_s = time.monotonic()

    def read(self, timeout_s):
        time.sleep(0.005)
        deflection = PUSH if self.is_pushed else np.zeros(6)
        now_s, connection = time.monotonic(), self._connection
        return PuckReading(
            deflection=deflection, moved_s=now_s, connection=connection, opened_s=self._opened_s, is_connected=True
        )

    def lost(self):
        return PuckReading(connection=self._connection)

    def close(self):
        pass


class Person:
    """An actor's loop on an arm in real time, and a person who pushes a SpaceMouse."""

    def __init__(self):
        self.puck = Puck()
        self.device = FaultyPuck(self.puck)
        self.thread = PuckThread(self.device)
        arm = ArmPuck(self.thread, SpaceMouseConfig(), lambda: STATE, has_gripper=False)
        self.teleop = SpaceMouseTeleop(CONFIG.action.spec, {"": arm})
        self.robot = FakeRobot(CONFIG.reset.pose, CONFIG.target_pose)
        self.waited_s = []
        self.loop = ActorLoop(
            open_env(self.robot, time_limit_steps=10_000),
            lambda _: np.full(6, 0.25, np.float32),
            self.teleop,
            session="s",
            sleep=self.wait,
        )
        self.replug = lambda: None

    def __enter__(self):
        self.puck.is_pushed = False
        self.teleop.open()
        until(lambda: self.teleop.read() and not self.puck.is_pushed, "the puck at rest")
        self.puck.is_pushed = True
        until(lambda: self.loop.step().is_intervention, "an intervention")
        return self

    def __exit__(self, *_):
        self.device.failure = None
        self.teleop.close()

    def wait(self, duration_s):
        self.waited_s.append(time.monotonic())
        self.replug()
        time.sleep(duration_s)


def lost_in(person, fault):
    """Let the device fail while it is pushed; return the time until nobody intervenes, and what is stored after."""
    person.device.failure = fault
    failed_s = time.monotonic()
    until(lambda: not person.teleop.read().is_engaged, "the end of the intervention")
    took_s = time.monotonic() - failed_s
    held = []

    def back():
        held.append((person.robot.calls[-1], person.loop.sequence))
        if len(person.waited_s) == 5:
            person.device.failure = None  # it is back, and still held as it was
        if len(person.waited_s) == 15:
            assert person.teleop.read().is_lost or fault is PuckFailure.SILENT, "it counts before its puck was at rest"
            person.puck.is_pushed = False

    person.replug = back
    before = person.loop.sequence
    step = person.loop.step()
    assert {call for call, _ in held} == {"hold"}
    assert {sequence for _, sequence in held} == {before}
    return took_s, step


@row("S1")
@pytest.mark.parametrize("fault", [PuckFailure.RAISES, PuckFailure.SILENT], ids=lambda fault: fault.value)
def test_a_device_unplugged_at_full_deflection_holds_the_arm_until_its_puck_was_at_rest(fault, observed, caplog):
    with Person() as person, caplog.at_level(logging.WARNING):
        took_s, step = lost_in(person, fault)
        assert took_s < 1.0  # 0.2 s are promised, of a machine with time for it
        assert step.provenance.episode == 1
        assert "lost while it was pushed" in caplog.text
    observed(f"{fault.value}: nobody intervenes after {took_s:.2f} s, the arm holds, nothing is stored")


@row("S2")
def test_a_reader_that_is_dead_is_as_good_as_no_device(observed):
    with Person() as person:
        person.device.failure = PuckFailure.DIES
        until(person.device.is_dead.is_set, "the reader's end")
        failed_s = time.monotonic()
        until(lambda: person.teleop.read().is_lost, "the loss")
        took_s = time.monotonic() - failed_s
        assert took_s < 1.0

        class Waited(Exception):
            pass

        def wait(_):
            raise Waited

        before = person.loop.sequence
        person.loop._sleep = wait
        with pytest.raises(Waited):
            person.loop.step()
        assert person.robot.calls[-1] == "hold"
        assert person.loop.sequence == before
    observed(f"lost after {took_s:.2f} s, the arm holds, nothing is stored")


# ---- S3, S4, S5, S6: cameras


class Sensor:
    """A camera at 100 Hz."""

    def __init__(self):
        self._random = np.random.default_rng(0)

    def open(self):
        pass

    def read(self):
        time.sleep(0.01)
        now_s = time.monotonic()
        return Frame(self._random.integers(50, 200, (32, 32, 3), np.uint8), now_s, now_s)

    def close(self):
        pass


class Watching:
    """An environment on an arm before one camera, through the whole pipeline."""

    def __init__(self, *, max_age_s=0.3):
        self.sensor = FaultyCamera(Sensor())
        camera = CameraConfig(name="wrist", height=32, width=32, max_age_s=max_age_s)
        observation = ObservationConfig(cameras=(camera,))
        self.vision = CameraVision(observation, make=lambda *_: CameraThread("wrist", self.sensor))
        self.robot = FakeRobot(CONFIG.reset.pose, CONFIG.target_pose)
        changed = Task(config=dataclasses.replace(CONFIG, observation=observation))
        self.env = ArmEnv(changed, self.robot, vision=self.vision)

    def __enter__(self):
        self.env.open()
        until(self.begins, "an episode")
        return self

    def __exit__(self, *_):
        self.sensor.failure = None
        self.env.close()

    def begins(self):
        """Return whether an episode begins with a step that sees: a machine that is busy may keep it from that."""
        try:
            self.env.reset()
        except CameraFault:
            return False
        return self.step()[0] is EndReason.RUNNING

    def step(self):
        time.sleep(0.02)
        started_s = time.monotonic()
        *_, truncated, info = self.env.step(np.zeros(6, np.float32))
        return info["end"], truncated, time.monotonic() - started_s


def blind_after(watching, fault):
    """Let the camera fail in an episode; return the time until it is truncated, and the steps' durations in s."""
    watching.sensor.failure = fault
    failed_s, took_s = time.monotonic(), []
    while True:
        end, truncated, step_s = watching.step()
        took_s.append(step_s)
        if end is EndReason.CAMERA_FAULT:
            assert truncated
            return time.monotonic() - failed_s, took_s
        assert time.monotonic() - failed_s < 30.0, "the camera's fault was not seen"


@row("S3")
@pytest.mark.parametrize("fault", BROKEN, ids=lambda fault: fault.value)
def test_a_camera_that_fails_ends_the_episode_with_the_arm_held_and_is_taken_up_again(fault, observed):
    with Watching() as watching:
        if fault is CameraFailure.REFUSES:
            watching.sensor.failure = CameraFailure.RAISES
        after_s, took_s = blind_after(watching, fault)
        assert watching.robot.calls[-1] == "hold"
        assert after_s < 3.0  # 1 s is promised, of a machine with time for it
        assert np.median(took_s) < 0.05  # the loop waits for no camera
        watching.sensor.failure = None
        until(watching.begins, "the camera")
    observed(
        f"{fault.value}: truncated after {after_s:.2f} s, a step took {1e3 * np.median(took_s):.1f} ms; it came back"
    )


@row("S3")
def test_nothing_that_runs_beside_an_arm_asks_a_question_on_the_terminal(observed):
    """Fault 24 of earlier systems: a camera's failure stopped the loop at a prompt while the arm pushed on."""
    folder = Path(actors.__file__).parent
    files = [*folder.rglob("*.py"), *(folder.parent / "serl_core").rglob("*.py")]
    asking = [
        f"{path.name}:{node.lineno}"
        for path in files
        if "cli" not in path.parts
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "input"
    ]
    assert asking == []
    assert len(files) > 100
    observed(f"no input() in {len(files)} files")


@row("S4")
@pytest.mark.parametrize("fault", FROZEN, ids=lambda fault: fault.value)
def test_a_frozen_camera_is_stale_although_it_goes_on_giving_pictures(fault, observed):
    with Watching(max_age_s=0.2) as watching:
        after_s, _ = blind_after(watching, fault)
        newest = watching.vision.newest_frames()["wrist"]
        assert time.monotonic() - newest.captured_s > 0.2
        assert after_s < 2.0  # 0.2 s and a step, of a machine with time for it
    observed(f"{fault.value}: truncated after {after_s:.2f} s")


def patches(seed):
    return np.kron(np.random.default_rng(seed).integers(30, 220, (4, 4, 3)), np.ones((8, 8, 1))).astype(np.uint8)


@row("S5")
def test_swapped_dark_and_doubled_cameras_are_refused_at_the_start(tmp_path, observed):
    wrist, side = patches(1), patches(2)
    assert check_views({"wrist": wrist, "side": side}, tmp_path) == []
    said = []
    for images in (
        {"wrist": side, "side": wrist},
        {"wrist": wrist, "side": np.full_like(side, 4)},
        {"wrist": wrist, "side": wrist},
    ):
        with pytest.raises(ConfigError) as refused:
            check_views(images, tmp_path)
        said.append(str(refused.value).split(":")[0].removeprefix("the cameras "))
    (warning,) = check_views({"wrist": wrist, "side": patches(3)}, tmp_path)
    observed(f"refused: {'; '.join(said)}. Warned: {warning}")


class Late(FakeVision):
    """Its pictures are of some time before."""

    late_s = 0.0

    def __init__(self, clock):
        super().__init__()
        self.clock = clock

    def look(self):
        return super().look()._replace(captured_s=self.clock() - self.late_s)


class RealArm(FakeRobot):
    """An arm that says that it is no simulation."""

    def health(self):
        return msgspec.structs.replace(super().health(), is_simulated=False, clock="real_time")


@row("S6")
def test_pictures_of_another_moment_are_flagged_and_too_many_of_them_are_a_fault(observed):
    clock = ManualClock(10.0)
    robot = RealArm(CONFIG.reset.pose, CONFIG.target_pose, clock=clock)
    vision = Late(clock)
    env = ArmEnv(task(), robot, vision=vision, rate=Rate(10.0, clock), now=clock, sleep=clock.advance)
    with env:
        env.reset()
        vision.late_s = 0.12
        first = env.step(np.zeros(6, np.float32))[4]
        vision.late_s = 0.08
        second = env.step(np.zeros(6, np.float32))[4]
        assert (first["is_apart"], second["is_apart"]) == (True, False)
        assert (first["end"], second["end"]) == (EndReason.RUNNING, EndReason.RUNNING)
        vision.late_s = 0.12
        third = env.step(np.zeros(6, np.float32))[4]
        assert third["end"] is EndReason.CAMERA_FAULT  # the second of fewer than 20 steps
        assert robot.calls[-1] == "hold"
        assert env.watch.apart == 2
    observed("flagged at 120 ms and not at 80 ms; the second in 20 steps ends the episode as camera_fault")


# ---- S7, S8: the reward classifier

JUDGED = RewardConfig(kind=RewardKind.CLASSIFIER, frames=3, tcp_z_m=(0.0, 1.0))


def judged(probabilities, folder=None, *, act=nothing, reward=JUDGED):
    """Return a loop whose classifier gives these in turn (two looks belong to the reset), its desk and its arm."""
    vision = FakeVision([0.0, 0.0, *probabilities], threshold=0.8)
    robot = FakeRobot(CONFIG.reset.pose, CONFIG.target_pose, is_lockstep=False)
    made = task(reward=reward)
    env = ArmEnv(made, robot, vision=vision, rate=Rate(10.0, robot.clock), now=robot.clock, sleep=robot.clock.advance)
    env.open()
    desk = OperatorDesk(now=robot.clock)
    desk.listeners = Watcher()
    review = FramesToReview(folder, made.config) if folder else None
    return ActorLoop(env, act, ListedTeleop(), session="s", desk=desk, review=review), desk, robot


class Watcher:
    is_watched = True

    def tell(self, message):
        pass


@row("S7")
def test_a_success_needs_three_frames_in_a_row_at_the_right_height_and_a_nan_is_none(observed, caplog):
    nan = math.nan
    loop, _, _ = judged([0.9, 0.9, 0.1, 0.9, nan, 0.9, 0.9, 0.9])
    ends = [loop.step().end for _ in range(8)]
    assert ends == [EndReason.RUNNING] * 7 + [EndReason.SUCCESS]
    assert loop.alarms["judgements_not_finite"] == 1
    assert "counts as no success" in caplog.text
    too_high = RewardConfig(kind=RewardKind.CLASSIFIER, frames=3, tcp_z_m=(-1.0, -0.5))
    loop, _, _ = judged([0.99] * 10, reward=too_high)
    assert {loop.step().end for _ in range(10)} == {EndReason.RUNNING}
    observed("0.9 0.9 0.1 0.9 NaN 0.9 0.9 0.9: success at the last; none at all at a wrong height; one alarm")


@row("S7")
def test_a_false_success_saves_its_frames_and_a_person_may_veto_it_within_a_second(tmp_path, observed):
    loop, desk, robot = judged([0.9] * 3, tmp_path)
    steps = [loop.step() for _ in range(3)]
    assert steps[-1].end is EndReason.SUCCESS
    assert loop.is_false_success  # the simulator knows better
    kept = list(tmp_path.rglob("*.safetensors"))
    assert kept
    assert loop.veto_until_s == pytest.approx(robot.clock() + 1.0)
    list(desk.receive(Veto(operator="ann", session="s", episode=0), robot.clock() + 0.9))
    assert desk.settle("s", 0)
    observed(f"{len(kept)} file of frames for review; the veto after 0.9 s counts")


@row("S8")
def test_a_classifier_that_rewards_failures_or_that_nobody_has_measured_does_not_start(observed):
    def measured(count, total):
        return {MEASURE: msgspec.to_builtins(Measured.of(count, total))}

    path = Path("classifier.safetensors")
    check_quality(path, measured(0, 40))
    check_quality(path, measured(1, 100))
    said = []
    for metrics in (measured(2, 100), {}):
        with pytest.raises(ConfigError) as refused:
            check_quality(path, metrics)
        said.append(str(refused.value).split(": ", 1)[1].split(";")[0])
    assert "95 % bound" in said[0]
    observed(f"0 of 40 and 1 of 100 pass; refused: {' | '.join(said)}")


# ---- N4: the policy


@row("N4")
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_policy_that_gives_no_number_ends_its_episode_and_the_process_lives(value, observed):
    actions = itertools.chain([0.5, value], itertools.repeat(0.5))
    robot = FakeRobot(CONFIG.reset.pose, CONFIG.target_pose)
    loop = ActorLoop(open_env(robot), lambda _: np.full(6, next(actions), np.float32), ListedTeleop(), session="s")
    loop.step()
    before = robot.state().tcp_pose
    fault = loop.step()
    assert robot.state().tcp_pose == before
    assert robot.calls[-1] == "hold"
    assert (fault.end, fault.discount, fault.reward) == (EndReason.POLICY_FAULT, 1.0, 0.0)
    np.testing.assert_array_equal(fault.action, np.zeros(6))
    after = loop.step()
    assert (after.end, after.provenance.episode) == (EndReason.RUNNING, 1)
    observed(f"{value}: zero action, hold, truncated as policy_fault; the next episode goes on")


# ---- B4: the arm that gives no sign of life


class Quiet(FakeRobot):
    """Gives no sign of life during the given steps, and for some looks after; its clock goes on."""

    def __init__(self, steps=(), looks=4):
        super().__init__(CONFIG.reset.pose, CONFIG.target_pose)
        self.quiet_steps, self.looks = set(steps), looks
        self.away = 0
        self.count = 0

    def step(self, pose, reply_after_s, gripper=None):
        self.count += 1
        if self.count in self.quiet_steps:
            self.away = self.looks
            raise RobotAway("the backend has gone quiet; the arm's state is old", status=503)
        return super().step(pose, reply_after_s, gripper)

    def state(self):
        state = super().state()
        self.away -= 1
        return msgspec.structs.replace(state, is_stale=True) if self.away >= 0 else state


def spans(steps):
    """Return the robot's time between the ends of consecutive steps of one episode, in s."""
    return [
        after.provenance.stamp_s - before.provenance.stamp_s
        for before, after in itertools.pairwise(steps)
        if before.provenance.episode == after.provenance.episode
    ]


@row("B4")
def test_an_actor_waits_for_a_quiet_arm_and_stores_nothing_that_spans_it(observed):
    robot = Quiet({4, 9})
    clock = robot.clock
    loop = ActorLoop(open_env(robot), nothing, ListedTeleop(), session="s", sleep=clock.advance)
    steps = [loop.step() for _ in range(10)]
    assert [step.provenance.sequence for step in steps] == list(range(10))
    assert [step.provenance.episode for step in steps] == [0] * 3 + [1] * 4 + [2] * 3
    assert spans(steps) == pytest.approx([PERIOD_S] * 7)
    assert loop.alarms["robot_absences"] == 2
    observed("two silences: two new episodes, sequence without a gap, no step longer than its period")


@row("B4")
def test_a_recording_and_an_evaluation_go_on_after_a_silence(tmp_path, observed):
    robot = Quiet({3})
    loop = ActorLoop(open_env(robot), towards_target, ListedTeleop(), session="a" * 32, sleep=robot.clock.advance)
    recording = record(loop, 1, tmp_path, task_digest=CONFIG.digest())
    episode = load_episode(recording.saved[0])
    assert episode[0].provenance.sequence == 2  # the two steps before the silence are of no demonstration
    assert spans(episode) == pytest.approx([PERIOD_S] * (len(episode) - 1))
    robot = Quiet({3})
    starts = start_grid(CONFIG.reset, 2)
    result = evaluate(open_env(robot), towards_target, starts, sleep=robot.clock.advance)
    whole = evaluate(open_env(), towards_target, starts)
    assert [trial.steps for trial in result.trials_detail] == [trial.steps for trial in whole.trials_detail]
    observed("the demonstration is whole; the trial is run again from its start")


@row("B4")
def test_an_arm_that_stays_away_ends_the_program_after_a_minute(observed):
    robot = Quiet({2}, looks=10**9)
    now_s = [0.0]

    def sleep(duration_s):
        now_s[0] += duration_s

    loop = ActorLoop(open_env(robot), nothing, ListedTeleop(), session="s", sleep=sleep)
    loop._absence._now = lambda: now_s[0]
    loop.step()
    with pytest.raises(RobotAway, match="for more than 60 s"):
        loop.step()
    assert now_s[0] >= PATIENCE_S
    observed("raises RobotAway after 60 s, which ends the program with status 2")


@row("B4")
def test_readings_that_freeze_behind_the_server_pause_the_actor(tmp_path, observed):
    """On the simulated arm in real time, over HTTP."""
    with served_arm(tmp_path) as (backend, _, url):
        robot = HttpRobot(url, owner="actor", token_file=tmp_path / "robot.token")
        with ArmEnv(TASK, robot) as env:
            loop = ActorLoop(env, nothing, ListedTeleop(), session="s")
            steps = [loop.step() for _ in range(5)]
            backend.state_freeze(0.4)
            steps += [loop.step() for _ in range(10)]
    assert [step.provenance.sequence for step in steps] == list(range(15))
    assert steps[-1].provenance.episode >= 1
    assert loop.alarms["robot_absences"] >= 1
    observed(f"frozen for 0.4 s: {loop.alarms['robot_absences']} absence, a new episode, no gap in the sequence")


@row("B4")
def test_a_robot_server_that_is_started_anew_is_taken_up_again(tmp_path, observed):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    options = ("--clock", "real_time", "--scene", "ram_insertion", "--port", port, "--stop-port", "0")
    steps, loop = [], None
    with server_process(tmp_path, *options) as (_, url, token):
        env = ArmEnv(TASK, HttpRobot(url, owner="actor", token_file=token))
        env.open()
        loop = ActorLoop(env, nothing, ListedTeleop(), session="s")
        steps += [loop.step() for _ in range(3)]
    again = threading.Event()

    def act():
        steps.extend(loop.step() for _ in range(3))
        again.set()

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    time.sleep(1.0)
    assert not again.is_set()
    with server_process(tmp_path, *options):
        until(again.is_set, "the actor's next steps")
        env.close()
    thread.join()
    assert [step.provenance.sequence for step in steps] == list(range(6))
    assert steps[3].provenance.episode > steps[2].provenance.episode
    observed("connects anew with a new lease, and begins a new episode")
