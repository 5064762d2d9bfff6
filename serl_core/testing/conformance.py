"""Checks that every implementation of an interface must pass. Run them on your own parts.

Each raises AssertionError with what is wrong.
"""

import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any, Protocol, runtime_checkable

import numpy as np

from serl_core.clock import Clock
from serl_core.errors import RobotFault, TransportError
from serl_core.geometry import distance
from serl_core.robots.interface import Robot
from serl_core.robots.messages import Mode
from serl_core.testing.episodes import assert_same_transitions, make_episode
from serl_core.transport.interface import ActorLink, Hello, LearnerLink, LearnerStatus, PolicyWeights
from serl_core.types import Transition

PATIENCE_S = 20.0

# --- robot ------------------------------------------------------------------------------------------


def check_robot(robot: Robot, *, lift_m: float = 0.005, now: Clock | None = None) -> None:
    """Check a Robot that is not connected yet, at rest and free to rise by `lift_m`. It moves the arm, and stops it.

    Args:
        robot: what to check.
        lift_m: how far it is moved.
        now: what its replies are timed by, in s; by the stamps of its states when None. A real arm may lose ticks: give
            it a wall clock.
    """
    with closing(robot):
        robot.connect()
        before = robot.state()
        numbers = np.array([*before.tcp_pose, *before.tcp_twist, *before.tcp_wrench, *before.q, *before.dq])
        assert np.isfinite(numbers).all(), f"a state has numbers that are not finite: {before}"
        norm = float(np.linalg.norm(before.tcp_pose[3:]))
        assert abs(norm - 1.0) < 1e-6, f"tcp_pose has a quaternion of norm {norm}"
        twist = np.array(before.jacobian) @ np.array(before.dq)
        assert np.allclose(twist, before.tcp_twist, atol=1e-6), f"tcp_twist is {before.tcp_twist}, J dq is {twist}"

        x, y, z, qx, qy, qz, qw = before.tcp_pose
        target = (x, y, z + lift_m, qx, qy, qz, qw)
        state = before
        for _ in range(20):
            asked_s = state.stamp_s if now is None else now()
            state = robot.step(target, 0.1)
            passed_s = (state.stamp_s if now is None else now()) - asked_s
            assert passed_s > 0.08, f"a step that asked for its reply after 0.1 s got it after {passed_s:.3f} s"
        assert state.mode is Mode.TRACKING, f"the mode while commanded is {state.mode}"
        left_m = float(distance(np.array(target), np.array(state.tcp_pose))[0])
        assert left_m < lift_m / 2, f"2 s after the target was set the tool is {1e3 * left_m:.1f} mm away from it"

        robot.hold()
        before = robot.step(robot.state().tcp_pose, 0.3)
        robot.hold()
        moved_m = float(distance(np.array(before.tcp_pose), np.array(robot.state().tcp_pose))[0])
        assert moved_m < 0.002, f"an arm at rest that was told to hold moved by {1e3 * moved_m:.1f} mm"

        robot.stop()
        assert robot.state().mode is Mode.STOPPED, "stop() did not latch"
        try:
            robot.step(target, 0.1)
        except RobotFault:
            pass
        else:
            raise AssertionError("a stopped arm took a step")
        robot.resume()
        robot.step(robot.state().tcp_pose, 0.1)
    robot.close()  # safe to call twice


# --- teleop -----------------------------------------------------------------------------------------


@runtime_checkable
class TeleopDevice(Protocol):
    """`actors.teleop.interface.Teleop`, which this package may not import."""

    def open(self) -> None:
        """Start reading the device."""

    def read(self) -> Any:
        """Return the newest command."""

    def close(self) -> None:
        """Stop reading."""


def check_teleop(teleop: TeleopDevice, action_size: int) -> None:
    """Check a Teleop that is not open yet, whatever its user does meanwhile."""
    with closing(teleop):
        teleop.open()
        for _ in range(20):
            command = _returns(teleop.read)
            action = np.asarray(command.action)
            assert action.shape == (action_size,), (
                f"the action has shape {action.shape}, the task's is ({action_size},)"
            )
            assert np.isfinite(action).all(), f"the action is not finite: {action}"
            assert np.abs(action).max() <= 1.0, f"the action leaves [-1, 1]: {action}"
            assert isinstance(command.is_engaged, bool), f"is_engaged is {command.is_engaged!r}, not a bool"
            assert isinstance(command.hands_back, bool), f"hands_back is {command.hands_back!r}, not a bool"
    teleop.close()  # safe to call twice


# --- camera -----------------------------------------------------------------------------------------


@runtime_checkable
class CameraDevice(Protocol):
    """`actors.cameras.interface.Camera`, which this package may not import."""

    def open(self) -> None:
        """Start the camera."""

    def close(self) -> None:
        """Stop the camera."""

    def latest(self) -> Any:
        """Return the newest frame, or None."""

    def problem(self) -> str | None:
        """Return why no new frame comes."""


def check_camera(camera: CameraDevice) -> None:
    """Check a Camera that is not open yet and looks at something that is not all black."""
    for _ in range(2):  # what was closed opens again
        with closing(camera):
            camera.open()
            frame = _newer(camera, -np.inf)
            for _ in range(3):
                frame = _newer(camera, frame.captured_s)
            problem = camera.problem()
            assert problem is None or isinstance(problem, str), f"problem() returns {problem!r}, no text"
        camera.close()  # safe to call twice


def _newer(camera: CameraDevice, than_s: float) -> Any:
    """Wait for a frame captured after `than_s`, and check it."""
    frames: list[Any] = []

    def has_come() -> bool:
        frame = _returns(camera.latest)
        if frame is not None:
            frames[:] = [frame]
            assert frame.captured_s >= than_s, f"a frame of {frame.captured_s} s came after one of {than_s} s"
        return frame is not None and frame.captured_s > than_s

    _until(has_come, "a new frame comes", camera.problem)
    (frame,) = frames
    image, age_s = frame.image, time.monotonic() - frame.captured_s
    assert isinstance(image, np.ndarray), f"an image is {type(image).__name__}, not an array"
    assert image.dtype == np.uint8, f"an image has numbers of {image.dtype}, not uint8"
    assert image.ndim == 3, f"an image has shape {image.shape}, not (height, width, 3)"
    assert image.shape[2] == 3, f"an image has shape {image.shape}, not (height, width, 3)"
    assert image.max() > 2, "an image is all black"
    assert not image.flags.writeable, "an image can be written to, and is shared by all who look"
    assert 0.0 <= age_s < PATIENCE_S, f"a new frame is {age_s:.3f} s old; captured_s is on time.monotonic"
    return frame


def _returns(read: Callable[[], Any]) -> Any:
    """Return what `read` returns, if it does so before patience ends."""
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(read()), daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    assert answers, f"{getattr(read, '__name__', 'read')}() blocks, or raised"
    return answers[0]


# --- transport -------------------------------------------------------------------------------------

OpenLearner = Callable[[str], LearnerLink]
"""spec digest -> a listening learner's end, always at the same address."""

MakeActor = Callable[[], ActorLink]
"""A new actor's end for that address, not connected yet."""

DIGEST = "cafe"


def check_transport(open_learner: OpenLearner, make_actor: MakeActor) -> None:
    """Check an ActorLink and a LearnerLink against the rules of `serl_core.transport.interface`."""
    for check in TRANSPORT_CHECKS:
        check(open_learner, make_actor)


def check_each_transition_arrives_once_and_in_order(open_learner: OpenLearner, make_actor: MakeActor) -> None:
    """Whatever is offered again is dropped and counted."""
    steps = make_episode(steps=20)
    with closing(open_learner(DIGEST)) as learner, closing(make_actor()) as actor:
        _connect(actor)
        actor.offer(steps[:10])
        actor.offer(steps[:10])
        actor.offer(steps[5:])
        assert_same_transitions(_receive(learner, 20), steps)
        _until(lambda: learner.counters()["duplicate"] == 15, "15 duplicates are counted", learner.counters)
        assert learner.counters()["received"] == 20
        assert not learner.receive(0.0)


def check_a_gap_is_not_bridged(open_learner: OpenLearner, make_actor: MakeActor) -> None:
    """A transition that comes before its predecessor waits until it is offered again."""
    steps = make_episode(steps=10)
    with closing(open_learner(DIGEST)) as learner, closing(make_actor()) as actor:
        _connect(actor)
        actor.offer(steps[:4])
        actor.offer(steps[6:])
        received = _receive(learner, 4)
        actor.offer(steps[4:])
        assert_same_transitions(received + _receive(learner, 6), steps)


def check_only_the_learner_acknowledges(open_learner: OpenLearner, make_actor: MakeActor) -> None:
    """Received is not acknowledged: that takes the learner's word, up to a sequence."""
    with closing(open_learner(DIGEST)) as learner, closing(make_actor()) as actor:
        first = _connect(actor)
        assert (first.session, first.acked_sequence, first.received_sequence) == ("session", -1, -1)
        actor.offer(make_episode(steps=10))
        _receive(learner, 10)
        status = _status(actor, lambda status: status.received_sequence == 9)
        assert status.acked_sequence == -1
        learner.acknowledge("session", 6)
        _status(actor, lambda status: status.acked_sequence == 6)


def check_progress_reaches_every_actor(open_learner: OpenLearner, make_actor: MakeActor) -> None:
    """What the learner reports comes without being asked for."""
    with closing(open_learner(DIGEST)) as learner, closing(make_actor()) as one, closing(make_actor()) as two:
        _connect(one, "one")
        _connect(two, "two")
        counted = learner.counters()
        assert (counted["introduced"], counted["connected"]) == (2, 2)
        learner.report(env_steps=7, trained_env_steps=5, is_finished=True)
        for actor in (one, two):
            status = _status(actor, lambda status: status.is_finished)
            assert (status.env_steps, status.trained_env_steps) == (7, 5)


def check_a_restarted_learner_gets_what_it_lacks(open_learner: OpenLearner, make_actor: MakeActor) -> None:
    """It restores what its disk holds; the actor goes on without connecting again."""
    steps = make_episode(steps=15)
    with closing(make_actor()) as actor:
        with closing(open_learner(DIGEST)) as learner:
            _connect(actor)
            actor.offer(steps[:10])
            _receive(learner, 10)
            learner.acknowledge("session", 4)
            _status(actor, lambda status: status.acked_sequence == 4)
        with closing(open_learner(DIGEST)) as learner:
            learner.restore({"session": 4})
            _status(actor, lambda status: status.received_sequence == 4)
            actor.offer(steps)
            assert_same_transitions(_receive(learner, 10), steps[5:])


def check_what_was_offered_to_nobody_is_noticed(open_learner: OpenLearner, make_actor: MakeActor) -> None:
    """A learner that comes back says where it stands, even if it stands where it stood."""
    steps = make_episode(steps=10)
    with closing(make_actor()) as actor:
        with closing(open_learner(DIGEST)) as learner:
            _connect(actor)
            actor.offer(steps[:5])
            _receive(learner, 5)
            learner.acknowledge("session", 4)
            _status(actor, lambda status: status.acked_sequence == 4)
        while actor.poll() is not None:
            pass
        actor.offer(steps[5:])
        with closing(open_learner(DIGEST)) as learner:
            learner.restore({"session": 4})
            _status(actor, lambda status: status.received_sequence >= 4)
            actor.offer(steps[5:])
            assert_same_transitions(_receive(learner, 5), steps[5:])


def check_a_learner_that_starts_afresh_goes_on(open_learner: OpenLearner, make_actor: MakeActor) -> None:
    """What another learner has acknowledged is not asked for again: the actor no longer has it."""
    steps = make_episode(steps=10)
    with closing(open_learner(DIGEST)) as learner, closing(make_actor()) as actor:
        _connect(actor)
        actor.offer(steps[6:])
        assert_same_transitions(_receive(learner, 4), steps[6:])


def check_a_restarted_actor_finishes_its_earlier_session(open_learner: OpenLearner, make_actor: MakeActor) -> None:
    """It has a new session, and brings what its earlier one left in the spool."""
    earlier, later = make_episode(session="earlier"), make_episode(session="later")
    with closing(open_learner(DIGEST)) as learner:
        with closing(make_actor()) as actor:
            _connect(actor, "earlier")
            actor.offer(earlier[:3])
            received = _receive(learner, 3)
        with closing(make_actor()) as actor:
            _connect(actor, "later")
            actor.offer(earlier)
            actor.offer(later)
            assert_same_transitions(received + _receive(learner, 7), earlier + later)
            learner.acknowledge("earlier", 4)
            learner.acknowledge("later", 4)
            acked: dict[str, int] = {}

            def is_all_acked() -> bool:
                while (status := actor.poll()) is not None:
                    acked[status.session] = status.acked_sequence
                return acked == {"earlier": 4, "later": 4}

            _until(is_all_acked, "both sessions are acknowledged", lambda: acked)


def check_only_the_newest_weights_come(open_learner: OpenLearner, make_actor: MakeActor) -> None:
    """Versions rise, the last one arrives whole, and the learner may reuse its arrays at once."""
    kernel = np.zeros((3, 2), np.float32)
    with closing(open_learner(DIGEST)) as learner, closing(make_actor()) as actor:
        _connect(actor)
        assert actor.newest_weights(0) is None
        for version in range(1, 6):
            kernel[:] = version
            learner.publish(PolicyWeights(version, {"layer": {"kernel": kernel}, "scale": kernel[0]}, 10 * version))
        kernel[:] = -1.0
        seen = [0]

        def adopt() -> bool:
            weights = actor.newest_weights(seen[-1])
            if weights is not None:
                seen.append(weights.version)
                expected = np.full((3, 2), weights.version, np.float32)
                np.testing.assert_array_equal(weights.params["layer"]["kernel"], expected, strict=True)
                np.testing.assert_array_equal(weights.params["scale"], expected[0], strict=True)
                assert weights.env_steps == 10 * weights.version
            return seen[-1] == 5

        _until(adopt, "weights 5 arrive", lambda: seen)
        assert seen == sorted(set(seen)), f"versions must rise, got {seen}"
        assert actor.newest_weights(5) is None


def check_another_task_is_refused(open_learner: OpenLearner, make_actor: MakeActor) -> None:
    """The error names both digests."""
    with closing(open_learner(DIGEST)), closing(make_actor()) as actor:
        message = _refusal(actor, Hello(actor_id="actor", session="session", spec_digest="beef"))
        assert "beef" in message, message
        assert DIGEST in message, message


def check_another_encoder_is_refused(open_learner: OpenLearner, make_actor: MakeActor) -> None:
    """Its features would mean something else; the error names both encoders, and says nothing of another task."""
    with closing(open_learner(f"{DIGEST}+small-1")), closing(make_actor()) as actor:
        message = _refusal(actor, Hello(actor_id="actor", session="session", spec_digest=f"{DIGEST}+resnet10-2"))
        assert "small-1" in message, message
        assert "resnet10-2" in message, message
        assert "EncoderConfig" in message, message
        assert DIGEST not in message, message


def check_nobody_there_is_an_error(open_learner: OpenLearner, make_actor: MakeActor) -> None:
    """Connecting without a learner fails in time, and works once there is one."""
    hello = Hello(actor_id="actor", session="session", spec_digest=DIGEST)
    with closing(make_actor()) as actor:
        assert "learner" in _refusal(actor, hello)
        with closing(open_learner(DIGEST)) as learner:
            _connect(actor)
            actor.offer(make_episode(steps=2))
            _receive(learner, 2)


def check_nothing_blocks(open_learner: OpenLearner, make_actor: MakeActor) -> None:
    """Neither end waits for the other, even when that is gone; closing twice is harmless."""

    def work() -> None:
        steps = make_episode(steps=100)
        learner = open_learner(DIGEST)
        learner.acknowledge("nobody", 3)
        learner.report(1, 1)
        assert not learner.receive(0.0)
        actor = make_actor()
        _connect(actor)
        learner.close()
        learner.close()
        for _ in range(100):
            actor.offer(steps)
            actor.poll()
            actor.newest_weights(0)
        actor.close()
        actor.close()

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    worker.join(PATIENCE_S)
    assert not worker.is_alive(), "a call that must return at once is still waiting"


TRANSPORT_CHECKS = (
    check_each_transition_arrives_once_and_in_order,
    check_a_gap_is_not_bridged,
    check_only_the_learner_acknowledges,
    check_progress_reaches_every_actor,
    check_a_restarted_learner_gets_what_it_lacks,
    check_what_was_offered_to_nobody_is_noticed,
    check_a_learner_that_starts_afresh_goes_on,
    check_a_restarted_actor_finishes_its_earlier_session,
    check_only_the_newest_weights_come,
    check_another_task_is_refused,
    check_another_encoder_is_refused,
    check_nobody_there_is_an_error,
    check_nothing_blocks,
)


def _connect(actor: ActorLink, session: str = "session") -> LearnerStatus:
    return actor.connect(Hello(actor_id="actor", session=session, spec_digest=DIGEST), PATIENCE_S)


def _refusal(actor: ActorLink, hello: Hello) -> str:
    try:
        actor.connect(hello, 0.3)
    except TransportError as error:
        return str(error)
    raise AssertionError(f"{hello} should not be accepted")


def _receive(learner: LearnerLink, count: int) -> list[Transition]:
    received: list[Transition] = []

    def is_complete() -> bool:
        received.extend(learner.receive(0.01))
        return len(received) >= count

    _until(is_complete, f"{count} transitions arrive", lambda: len(received))
    return received


def _status(actor: ActorLink, is_wanted: Callable[[LearnerStatus], bool]) -> LearnerStatus:
    seen: list[LearnerStatus] = []

    def has_come() -> bool:
        while (status := actor.poll()) is not None:
            seen.append(status)
            if is_wanted(status):
                return True
        return False

    _until(has_come, "the wanted status comes", lambda: seen)
    return seen[-1]


def _until(is_so: Callable[[], bool], what: str, found: Callable[[], object]) -> None:
    give_up_s = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < give_up_s, f"waited in vain until {what}; got {found()}"
        time.sleep(0.005)
