from dataclasses import replace

import msgspec
import numpy as np
import pytest

from actors.absence import Absence
from actors.classifier_data import (
    LET_GO_S,
    MAX_EPISODES_IN_VAIN,
    FrameRecorder,
    Wanted,
    handled_episode,
    record_frames,
    scripted_episode,
    surviving,
    trusted,
    truth_label,
)
from examples.ram_insertion import CONFIG, TASK
from serl_core.clock import ManualClock, Rate
from serl_core.data.labelled_frames import LabelledFrames, count_labels, load_folders, load_labelled
from serl_core.envs.vision import Sight
from serl_core.errors import CameraFault, ConfigError, DataError, RobotAway, RobotError, RobotFault, SerlError
from serl_core.robots.messages import Mode
from serl_core.testing.fakes import FakeRobot
from tests.actors.fakes import ListedTeleop, command


class PoseVision:
    """Shows the tool's height as a grey."""

    success_threshold = None

    def __init__(self, robot):
        self._robot = robot

    def open(self, robot):
        pass

    def close(self):
        pass

    def look(self):
        grey = int(1000 * self._robot.state().tcp_pose[2])
        return Sight({"wrist": np.full((16, 16, 3), grey, np.uint8)})


def fake_robot(is_lockstep=True, start=CONFIG.reset.pose):
    robot = FakeRobot(start, CONFIG.target_pose, is_lockstep=is_lockstep)
    robot.connect()
    return robot


def recorder(robot, label=truth_label, task=TASK, **options):
    return FrameRecorder(task, robot, PoseVision(robot), label, **{"is_lockstep": True, **options})


def targets(*heights_m):
    return iter([np.array([*CONFIG.target_pose[:2], height_m, *CONFIG.target_pose[3:]]) for height_m in heights_m])


def labels(text):
    """Return a label that says what `text` says, a letter a step: # success, . none, ? not known."""
    letters = iter(text)
    return lambda _: {"#": True, ".": False, "?": None}[next(letters)]


def test_each_frame_is_kept_with_the_label_and_pose_of_its_step():
    robot = fake_robot()
    frames = recorder(robot).run(targets(0.08, 0.058, 0.058, 0.058, 0.1))
    assert frames.task == "ram_insertion"
    np.testing.assert_array_equal(frames.is_success, [False, False, True, True, False])
    np.testing.assert_array_equal(frames.images["wrist"][:, 0, 0, 0], np.floor(1000 * frames.tcp_pose[:, 2]))
    assert robot.replies_after_s == [1.0 / CONFIG.control_hz] * 5


def test_frames_whose_label_is_not_known_are_left_out():
    frames = recorder(fake_robot(), labels(".?#?.")).run(targets(*[0.1] * 5))
    np.testing.assert_array_equal(frames.is_success, [False, True, False])
    np.testing.assert_array_equal(frames.step, [0, 2, 4])
    assert recorder(fake_robot(), labels("??")).run(targets(0.1, 0.1)) is None


def test_negative_labels_within_the_reaction_time_before_a_positive_one_are_not_trusted():
    label, step = np.array([False, False, False, False, True, False, False]), np.array([0, 1, 2, 3, 4, 5, 9])
    kept = trusted(label, step, 2, end_step=12)
    np.testing.assert_array_equal(kept, [True, True, False, False, True, True, True])
    assert trusted(label, step, 0, end_step=10).all()
    frames = recorder(fake_robot(), labels("...#"), reaction_steps=2).run(targets(*[0.1] * 4))
    np.testing.assert_array_equal(frames.step, [0, 3])


def test_negative_labels_within_the_reaction_time_before_the_end_are_not_trusted():
    """A person who pressed just after the end left the success's last frames labelled negative."""
    frames = recorder(fake_robot(), labels("....?#.."), reaction_steps=2).run(targets(*[0.1] * 8))
    np.testing.assert_array_equal(frames.step, [0, 1, 2, 5])
    frames = recorder(fake_robot(), labels("..??"), reaction_steps=3).run(targets(*[0.1] * 4))  # counted from the end
    np.testing.assert_array_equal(frames.step, [0])
    assert recorder(fake_robot(), labels(".."), reaction_steps=2).run(targets(0.1, 0.1)) is None


def test_a_label_that_remembers_is_told_when_an_episode_begins():
    said = []
    recording = recorder(fake_robot(), lambda _: said.append("label"), begin_label=lambda: said.append("begin"))
    recording.run(targets(0.1, 0.1))
    recording.run(targets(0.1))
    assert said == ["begin", "label", "label", "begin", "label"]


@pytest.mark.parametrize("refusals", [1, 2])
def test_a_target_that_the_robot_refuses_makes_the_arm_stay_and_the_recording_go_on(refusals, caplog):
    """One target beyond a joint's limit ended the whole recording."""
    robot = fake_robot(is_lockstep=False)
    sent, step, sleeps = [], robot.step, []

    def refusing(pose, reply_after_s, gripper=None):
        sent.append(pose)
        if 1 <= len(sent) - 1 <= refusals:
            raise RobotError("joint 4 would turn too far", status=422)
        return step(pose, reply_after_s, gripper)

    robot.step = refusing
    frames = recorder(robot, is_lockstep=False, sleep=sleeps.append).run(targets(0.1, 0.06, 0.08))
    assert frames.is_success.size == 3
    assert sent[2] == pytest.approx(frames.tcp_pose[0])  # where it was
    np.testing.assert_allclose(frames.tcp_pose[1], frames.tcp_pose[0])
    assert sent[-1][2] == 0.08
    assert caplog.text.count("joint 4 would turn too far") == refusals
    assert len(sleeps) == refusals - 1


def test_any_other_refusal_ends_the_recording():
    robot = fake_robot()

    def gone(*_):
        raise RobotError("no answer", status=500)

    robot.step = gone
    with pytest.raises(RobotError, match="no answer"):
        recorder(robot).run(targets(0.1))


def test_a_hold_is_the_robot_s_own_and_the_state_is_of_after_it():
    """It sent a target to where the arm was measured: one that comes late, or that the robot refuses, holds nothing."""
    robot = fake_robot()
    recording = recorder(robot)
    recording.run(targets(0.06))
    recording.hold()
    assert robot.calls[-1] == "hold"
    assert recording.now() == robot.state()


class AwayAtTimes:
    """Vision and label of a recorder whose robot is away when asked for."""

    def __init__(self, clock):
        self.robot = FakeRobot(CONFIG.reset.pose, CONFIG.target_pose, clock=clock)
        self.robot.connect()
        self.sees_again_s = 0.0
        self.clock = clock
        self.vision = PoseVision(self.robot)
        self.vision.look, self._look = self.look, self.vision.look

    def look(self):
        if self.clock() < self.sees_again_s:
            raise CameraFault("no picture")
        return self._look()

    def leave(self, away):
        """Be away at the next step, and blind for a moment after it."""
        step = self.robot.step

        def away_once(*_):
            self.robot.step = step
            self.sees_again_s = self.clock() + 4.0
            raise away

        self.robot.step = away_once


@pytest.mark.parametrize("status", [0, 503, 409], ids=["gone", "quiet", "started anew"])
def test_a_robot_that_was_away_costs_the_episode_and_not_the_recording(tmp_path, status):
    """A robot server that was started anew ended the recording of frames."""
    clock = ManualClock()
    place = AwayAtTimes(clock)
    recording = FrameRecorder(TASK, place.robot, place.vision, truth_label, is_lockstep=True, sleep=clock.advance)
    absence = Absence(place.robot, now=clock, sleep=clock.advance)
    episode = surviving(scripted_episode(TASK, recording, seed=3), recording, absence)
    place.leave(RobotAway("it is away", status=status))
    assert record_frames(episode, Wanted(3, 9), tmp_path).positives >= 3
    assert absence.count == 1
    assert place.robot.calls[place.robot.calls.index("close") :][:2] == ["close", "connect"]


def test_a_robot_that_stays_away_ends_the_recording_with_the_reason(tmp_path):
    clock = ManualClock()
    robot = fake_robot()

    def away(*_):
        raise RobotAway("it is away")

    recording = recorder(robot)
    robot.state = robot.step = away
    episode = surviving(
        lambda _: recording.run(targets(0.1)), recording, Absence(robot, now=clock, sleep=clock.advance)
    )
    with pytest.raises(RobotAway, match=r"it is away \(for more than 60 s"):
        record_frames(episode, Wanted(3, 9), tmp_path)


def test_old_readings_are_no_frames():
    robot = fake_robot()
    step = robot.step
    robot.step = lambda *arguments: msgspec.structs.replace(step(*arguments), is_stale=True)
    with pytest.raises(RobotAway, match="gone quiet"):
        recorder(robot).run(targets(0.1))


def test_cameras_that_do_not_come_back_are_a_fault():
    clock = ManualClock()
    place = AwayAtTimes(clock)
    place.sees_again_s = 1e9
    recording = FrameRecorder(TASK, place.robot, place.vision, truth_label, is_lockstep=True, sleep=clock.advance)
    with pytest.raises(CameraFault):
        recording.await_sight()
    assert clock() == pytest.approx(10.0)


def test_no_target_leaves_the_safety_box():
    robot = fake_robot()
    state = robot.state()
    recorder(robot).run(iter([np.array([2.0, 0.0, -1.0, *CONFIG.target_pose[3:]])]))
    np.testing.assert_allclose(
        robot.state().reference_pose[:3], [CONFIG.box.high_m[0], state.tcp_pose[1], CONFIG.box.low_m[2]]
    )


def test_in_real_time_the_robot_replies_at_the_tick():
    clock = ManualClock()
    robot = fake_robot(is_lockstep=False)
    rate = Rate(CONFIG.control_hz, clock, clock.sleep)

    def slow_label(_):
        clock.advance(0.13)  # the robot has waited 0.1 s of it
        return False

    recorder(robot, slow_label, is_lockstep=False, rate=rate).run(targets(0.1, 0.1))
    assert robot.replies_after_s == pytest.approx([0.1, 0.07])


def test_an_arm_is_put_at_free_poses_only():
    robot = fake_robot()
    recording = recorder(robot)
    assert recording.put_at(np.array([0.5, 0.01, 0.1, 1.0, 0.0, 0.0, 0.0]))
    assert recording.now().tcp_pose[1] == 0.01

    def refuse(status):
        def sim_reset(seed=None, pose=None):
            raise RobotError("inside something", status=status)

        robot.sim_reset = sim_reset

    refuse(422)
    assert not recording.put_at(np.array(CONFIG.target_pose))
    refuse(500)
    with pytest.raises(RobotError):
        recording.put_at(np.array(CONFIG.target_pose))


def test_the_scripted_human_collects_both_kinds_in_simulation(tmp_path):
    robot = fake_robot()
    episode = scripted_episode(TASK, recorder(robot), seed=5)
    count = record_frames(episode, Wanted(20, 60), tmp_path)
    episodes = load_folders([tmp_path])
    assert count_labels(episodes) == count
    assert 20 <= count.positives < 40
    assert 60 <= count.negatives < 200
    assert len(episodes) > 2


def test_scripted_frames_are_the_same_for_the_same_seed():
    def run(seed):
        return scripted_episode(TASK, recorder(fake_robot()), seed=seed)(True)

    np.testing.assert_array_equal(run(1).tcp_pose, run(1).tcp_pose)
    assert run(1).tcp_pose.tolist() != run(2).tcp_pose.tolist()


def test_the_scene_is_seeded_once_and_an_arm_that_finds_no_free_pose_moves_to_its_start():
    robot = fake_robot()
    seeds, sim_reset = [], robot.sim_reset

    def recorded(seed=None, pose=None):
        seeds.append(seed)
        if pose is not None:
            raise RobotError("inside something", status=422)
        return sim_reset(seed, pose)

    robot.sim_reset = recorded
    episode = scripted_episode(TASK, recorder(robot), seed=5)
    episode(True)
    first = len(seeds)
    episode(True)
    assert seeds[:first] == [5] * first
    assert seeds[first:] == [None] * len(seeds[first:])
    assert robot.calls.count("move") >= 2


def test_a_task_without_an_expert_says_so():
    with pytest.raises(ConfigError, match="has no scripted expert"):
        scripted_episode(replace(TASK, expert=None), recorder(fake_robot()), seed=0)(True)


def test_a_person_moves_the_arm_by_hand_or_at_a_device():
    short = replace(TASK, config=replace(CONFIG, time_limit_steps=3))
    robot = fake_robot()
    quiet = {"say": lambda _: None, "sleep": lambda _: None}
    frames = handled_episode(short, recorder(robot, task=short), seed=0, **quiet)(False)
    assert frames.is_success.size == 3
    np.testing.assert_allclose(frames.tcp_pose, [robot.state().tcp_pose] * 3, atol=1e-9)
    teleop = ListedTeleop([command(1.0)] * 3)
    frames = handled_episode(short, recorder(robot, task=short), seed=0, teleop=teleop, **quiet)(False)
    assert np.diff(frames.tcp_pose[:, 2]).max() < -0.005  # down, along the tool


def test_the_arm_is_announced_before_it_moves_by_itself_and_when_it_yields():
    """At the end of an episode it drove off while a person's hands were on it."""
    short = replace(TASK, config=replace(CONFIG, time_limit_steps=2))
    robot = fake_robot()
    told = []

    def moves():
        return sum(call in ("move", "step", "sim_reset") for call in robot.calls)

    def say(text):
        told.append((text.split(":")[0], moves()))

    def sleep(duration_s):
        told.append((duration_s, moves()))

    handled_episode(short, recorder(robot, task=short), seed=0, say=say, sleep=sleep)(False)
    warned, waited, yields = told
    assert warned == ("Let go", 0)
    assert waited == (LET_GO_S, 0) == (3.0, 0)
    assert yields[0].startswith("The arm yields")
    assert 0 < yields[1] == moves() - 2


def listed_episodes(*pairs):
    """Return an episode per (positives, negatives), and the list of what each was asked for."""
    pairs, asked = list(pairs), []

    def episode(wants_success):
        asked.append(wants_success)
        positives, negatives = pairs.pop(0) if len(pairs) > 1 else pairs[0]
        count = positives + negatives
        if not count:
            return None
        return LabelledFrames(
            "ram",
            {"wrist": np.zeros((count, 16, 16, 3), np.uint8)},
            np.arange(count) < positives,
            np.arange(count),
            np.zeros((count, 7)),
        )

    return episode, asked


def test_it_asks_for_the_kind_that_is_behind(tmp_path):
    episode, asked = listed_episodes((4, 10), (0, 30), (4, 10), (4, 10))
    assert record_frames(episode, Wanted(10, 50), tmp_path) == Wanted(12, 60)
    assert asked == [True, False, True, True]


def test_enough_positives_are_asked_for_no_more(tmp_path):
    episode, asked = listed_episodes((9, 1), (0, 1))
    record_frames(episode, Wanted(5, 5), tmp_path)
    assert asked == [True, False, False, False, False]


def test_new_episodes_come_after_those_that_the_folder_has(tmp_path):
    episode, _ = listed_episodes((1, 1))
    record_frames(episode, Wanted(2, 2), tmp_path)
    record_frames(episode, Wanted(1, 1), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"frames-000{i}.safetensors" for i in range(3)]


def test_each_episode_is_on_the_disk_when_it_ends_and_another_recorder_s_is_not_overwritten(tmp_path):
    episode, _ = listed_episodes((1, 1))
    foreign = tmp_path / "frames-0001.safetensors"

    def beside_another(wants_success):
        if (tmp_path / "frames-0000.safetensors").exists():
            foreign.write_bytes(b"theirs")
        return episode(wants_success)

    with pytest.raises(DataError, match=r"frames-0001\.safetensors is there already"):
        record_frames(beside_another, Wanted(3, 3), tmp_path)
    assert load_labelled(tmp_path / "frames-0000.safetensors").is_success.size == 2
    assert foreign.read_bytes() == b"theirs"


@pytest.mark.parametrize("pair", [(0, 0), (0, 3), (3, 0)])
def test_it_gives_up_when_a_kind_never_comes(tmp_path, pair):
    episode, asked = listed_episodes(pair)
    with pytest.raises(SerlError, match="20 episodes in a row brought no frame of the kind that is missing"):
        record_frames(episode, Wanted(3, 3), tmp_path)
    assert MAX_EPISODES_IN_VAIN <= len(asked) <= MAX_EPISODES_IN_VAIN + 1


def test_at_least_one_frame_of_each_kind_must_be_wanted(tmp_path):
    with pytest.raises(ConfigError, match="at least 1 of each kind"):
        record_frames(listed_episodes((1, 1))[0], Wanted(0, 5), tmp_path)


def test_a_robot_without_truth_is_labelled_by_key():
    state = fake_robot().state()
    assert truth_label(state) is False
    with pytest.raises(ConfigError, match="label by key"):
        truth_label(type(state)(**{name: getattr(state, name) for name in state.__struct_fields__} | {"truth": None}))


def test_a_stopped_robot_ends_the_recording():
    robot = fake_robot()
    recording = recorder(robot)
    robot.fail(Mode.STOPPED, "operator")
    with pytest.raises(RobotFault):
        recording.run(targets(0.1))
