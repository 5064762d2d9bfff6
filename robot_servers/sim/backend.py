"""The simulated Franka behind the driver's protocol, in lockstep or in real time."""

import logging
import math
import threading
import time

import numpy as np

from robot_servers.backend import Floats, JointLimits, Measured, Servo, jacobian_rows
from robot_servers.sim.cameras import CameraThread, Snapshot
from robot_servers.sim.impedance import ImpedanceLaw, TorqueLimiter
from robot_servers.sim.joint_limits import LIMITS, repulsion
from robot_servers.sim.joint_reset import JointReset
from robot_servers.sim.model import PERIOD_S
from robot_servers.sim.scenes import SCENES
from robot_servers.sim.visuals import VisualPreset, Visuals, visual_stream
from robot_servers.sim.world import World
from serl_core.errors import ConfigError, RobotError
from serl_core.robots.interface import CameraImage
from serl_core.robots.messages import ImpedanceParams, Mode, RobotState, Vector3, Vector7

logger = logging.getLogger(__name__)

PUSHING_N = 10.0  # SAFETY 1.3: gains do not rise above this external force
CHUNK_TICKS = 5  # run at a time in real time, so that a reading never waits long
OVERRUN_TICKS = 20  # the arm itself would stop after missing so many


class MujocoBackend:
    """A Franka in MuJoCo: `SimBackend`.

    In lockstep, time moves only by `advance`, and a run is the same to the bit for the same seed and
    calls. In real time a thread keeps simulated time with the monotonic clock: it makes up for lateness
    in small chunks and counts each time it was 20 ms late in `overruns`.
    """

    name = "sim"
    is_simulated = True

    def __init__(
        self,
        scene: str,
        *,
        seed: int = 0,
        is_lockstep: bool,
        target_filter_s: float = 0.02,
        visuals: Visuals | None = None,
    ) -> None:
        """Build the scene, the arm at its start pose.

        Args:
            scene: its name.
            seed: of all randomness.
            is_lockstep: whether time moves only by `advance`.
            target_filter_s: time constant of the set-point's filter in the impedance law.
            visuals: how pictures look; plain if None.

        Raises:
            ConfigError: there is no such scene.
        """
        if scene not in SCENES:
            raise ConfigError(f"scene {scene!r}: the simulator has {', '.join(sorted(SCENES))}")
        self.scene: str | None = scene
        self.is_lockstep = is_lockstep
        self.overruns = 0
        self._world = World(SCENES[scene]())
        self._law = ImpedanceLaw(ImpedanceParams(), target_filter_s=target_filter_s)
        self._limiter = TorqueLimiter()
        self._joint_reset: JointReset | None = None
        self._servo: Servo | None = None
        self._ticks = 0
        self._fault: str | None = None
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._random = np.random.default_rng(seed)
        visuals = visuals or VisualPreset.PLAIN.visuals
        self._camera_thread = CameraThread(self._world.scene, self._snapshot, visuals)
        self.cameras = self._camera_thread.names
        self._varies_looks = visuals.randomisation is not None
        self._looks = visual_stream(seed)
        self._look: int | None = None
        self.reset(None, None)

    def start(self, servo: Servo) -> None:
        """Hold the present pose and, in real time, start the control loop."""
        self.stop()
        with self._lock:
            self._servo = servo
            self._hold()
        if not self.is_lockstep:
            self._stopping.clear()
            self._thread = threading.Thread(target=self._run, args=(servo,), name="sim-control-loop", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the control loop. Safe to call twice."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._servo = None
        self._camera_thread.close()

    def joint_limits(self) -> JointLimits:
        """Return the Panda's."""
        return LIMITS

    def now_s(self) -> float:
        """Return the simulated time: it goes on through resets."""
        return self._ticks * PERIOD_S

    def advance(self, duration_s: float) -> None:
        """Run the control loop for `duration_s`, rounded to ticks of 1 ms.

        Raises:
            RobotError: not started, or not in lockstep.
        """
        servo = self._servo
        if not self.is_lockstep or servo is None:
            why = "has not been started" if self.is_lockstep else "runs in real time; only a lockstep one is advanced"
            raise RobotError(f"the simulator {why}", status=409)
        with self._lock:
            for _ in range(round(duration_s / PERIOD_S)):
                self._tick(servo)

    def reset(self, seed: int | None, pose: Vector7 | None) -> None:
        """Put the arm at rest at `pose`, the object in its hand; nothing changes if it cannot be there.

        Raises:
            RobotError: the pose cannot be reached or is inside something.
        """
        with self._lock:
            random = self._random if seed is None else np.random.default_rng(seed)
            self._world.place(pose or self._world.scene.start_pose, random)
            self._random = random
            if seed is not None:
                self._looks = visual_stream(seed)
            if self._varies_looks:
                self._look = int(self._looks.integers(2**63))
            self._joint_reset = None
            self._law.gains.settle()
            self._hold()
            world = self._world
            law_nm = self._law.torque(world.position_m, world.quaternion(), world.q, world.dq, world.jacobian)
            self._limiter.restart(law_nm + repulsion(world.q), world.compensation())

    def _hold(self) -> None:
        self._law.restart(self._world.position_m, self._world.quaternion())

    def _tick(self, servo: Servo) -> None:
        world, law, limiter = self._world, self._law, self._limiter
        position, quaternion = world.position_m, world.quaternion()
        reference = servo(self.now_s(), Measured(position, quaternion, world.q, world.dq, world.jacobian))
        if not law.gains.is_settled:
            law.gains.ramp(may_rise=float(np.linalg.norm(world.wrench[:3])) <= PUSHING_N)
        was_sound = not limiter.numeric_fault
        joint_reset = self._joint_reset  # the servo may have ended it
        if joint_reset is not None:
            law.restart(position, quaternion)  # so that ending it at any tick holds the pose of that tick
            torque = limiter.apply(joint_reset.torque(world.q, world.dq), world.compensation())
            if joint_reset.is_blocked:
                self._fault, self._joint_reset = "joint_reset_blocked", None
        elif limiter.numeric_fault or law.follow(reference):
            wrench = None if limiter.numeric_fault else reference.wrench
            law_torque = law.torque(position, quaternion, world.q, world.dq, world.jacobian, wrench)
            torque = limiter.apply(law_torque + repulsion(world.q), world.compensation())
        else:
            torque = limiter.repeat()
        if was_sound and limiter.numeric_fault and math.isfinite(position.sum() + quaternion.sum()):
            law.restart(position, quaternion)  # the old reference could push into a contact for ever
        world.step(torque)
        self._ticks += 1

    def _run(self, servo: Servo) -> None:
        origin_s = time.monotonic() - self.now_s()
        try:
            while not self._stopping.is_set():
                late = int((time.monotonic() - origin_s) / PERIOD_S) - self._ticks
                if late > OVERRUN_TICKS:
                    self.overruns += 1
                with self._lock:
                    for _ in range(min(late, CHUNK_TICKS)):
                        self._tick(servo)
                next_s = origin_s + (self._ticks + 1) * PERIOD_S
                time.sleep(max(next_s - time.monotonic(), 0.0))
        except Exception:  # never silently: a fault is latched
            logger.exception("the simulator's control loop died")
            self._fault = "control_loop_died"

    def state(self) -> RobotState:
        """Return the present reading, consistent in itself: twist = jacobian @ dq."""
        with self._lock:
            world = self._world
            position, quaternion = world.position_m.tolist(), world.quaternion().tolist()
            return RobotState(
                stamp_s=self.now_s(),
                tcp_pose=(*position, *quaternion),
                tcp_twist=tuple((world.jacobian @ world.dq).tolist()),
                tcp_wrench=tuple(world.wrench.tolist()),
                q=tuple(world.q.tolist()),
                dq=tuple(world.dq.tolist()),
                jacobian=jacobian_rows(world.jacobian),
                gripper=world.opening(),
                mode=Mode.HOLD,
                reference_pose=self._law.target.pose,
                fault=self.fault(),
                truth=world.truth(),
            )

    def torque_nm(self) -> Floats:
        """Return what was sent to the joints in the newest tick [7] (a view), without friction or contact."""
        return self._world.torque_nm

    def camera(self, name: str, height: int, width: int) -> CameraImage:
        """Return a picture of the present state; the physics goes on meanwhile, unless in lockstep."""
        return self._camera_thread.camera(name, height, width)

    def _snapshot(self) -> Snapshot:
        with self._lock:
            return Snapshot(self._world.configuration(), self.now_s(), self._look)

    def set_impedance(self, params: ImpedanceParams) -> None:
        """Let gains and clips go to `params` with a time constant of 0.1 s; none rises while the arm pushes."""
        with self._lock:
            self._law.gains.set_goal(params)

    def set_gripper(self, position: float, speed_m_s: float, force_n: float) -> None:
        """Start moving the fingers to `position`, 0 closed .. 1 open. Opening lets the object go until a reset."""
        with self._lock:
            self._world.move_gripper(position, speed_m_s, force_n)

    def set_load(self, mass_kg: float, center_m: Vector3, inertia_kg_m2: tuple[float, ...]) -> None:
        """Set the load that gravity compensation counts on; the inertia has no part in it."""
        with self._lock:
            self._world.set_load(mass_kg, center_m)

    def start_joint_reset(self) -> None:
        """Begin the straight joint-space move to the rest posture; it then stays there until cancelled."""
        with self._lock:
            self._joint_reset = JointReset(self._world.q)

    # The next two and `fault` take no lock: the servo calls them inside the tick, under locks of its own.

    def joint_reset_error_rad(self) -> float | None:
        """Return the largest joint error of a joint reset, or None when none runs; 0.01 rad is there."""
        joint_reset = self._joint_reset
        return None if joint_reset is None else joint_reset.error_rad(self._world.q)

    def cancel_joint_reset(self) -> None:
        """Go back to the impedance law, from the present pose on."""
        self._joint_reset = None

    def recover(self) -> None:
        """Clear a latched fault and hold the present pose."""
        with self._lock:
            self._limiter.numeric_fault = False
            self._fault = None
            self._hold()

    def fault(self) -> str | None:
        """Return ``numeric_fault``, ``joint_reset_blocked``, ``control_loop_died`` or None."""
        return "numeric_fault" if self._limiter.numeric_fault else self._fault
