"""HIL-SERL's routes over the same service (REFERENCE section 3): POST, JSON in, JSON or a sentence out.

For clients that know neither lease nor token nor refusals. `SerlArm` says what becomes of each call, and the status of
the reply is what `/v1` would give. What waits for the arm or its driver does so without holding up the event loop.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable

import msgspec
import numpy as np
from fastapi import FastAPI, Request
from fastapi.responses import Response

from robot_servers.app import decode_body, read_body
from robot_servers.limits import Refusal
from robot_servers.rotations import rotated
from robot_servers.serl_routes.arm import SerlArm
from robot_servers.serl_routes.compliance import Compliance
from serl_core.errors import RobotError
from serl_core.geometry import quaternion_to_euler
from serl_core.robots.messages import LoadCommand, Message, RobotState, Vector3, Vector6, Vector7

logger = logging.getLogger(__name__)

LOOK_S = 0.02  # between looks at a joint reset: how stale its end may be
CLOSED_REQUEST = 499  # nobody is there to read it

Reading = dict[str, object]
Endpoint = Callable[[Request], Awaitable[Response]]


class PoseBody(Message, frozen=True):
    """POST /pose: x y z qx qy qz qw."""

    arr: Vector7


class WrenchBody(Message, frozen=True):
    """POST /wrench: in the tool frame."""

    arr: Vector6


class GripperBody(Message, frozen=True):
    """POST /move_gripper: 0..255."""

    gripper_pos: float


class LoadBody(Message, frozen=True):
    """POST /set_load: kg, m in the flange frame, kg m^2 column by column (it is symmetric)."""

    mass: float
    F_x_center_load: Vector3
    load_inertia: tuple[float, float, float, float, float, float, float, float, float]


READINGS: dict[str, Callable[[RobotState], Reading]] = {
    "/getstate": lambda state: _reading(state),
    "/getpos": lambda state: {"pose": state.tcp_pose},
    "/getpos_euler": lambda state: {"pose": (*state.tcp_pose[:3], *_euler(state))},
    "/getvel": lambda state: {"vel": state.tcp_twist},
    "/getforce": lambda state: {"force": _exerted(state, state.tcp_wrench[:3])},
    "/gettorque": lambda state: {"torque": _exerted(state, state.tcp_wrench[3:])},
    "/getq": lambda state: {"q": state.q},
    "/getdq": lambda state: {"dq": state.dq},
    "/getjacobian": lambda state: {"jacobian": state.jacobian},
    "/get_gripper": lambda state: {"gripper": state.gripper},
}
"""What each route reads from the state. Twist and Jacobian are in the base frame."""

SENTENCES: dict[str, Callable[[SerlArm, bytes], str]] = {
    "/pose": lambda arm, body: arm.pose(decode_body(body, PoseBody).arr),
    "/wrench": lambda arm, body: arm.wrench(decode_body(body, WrenchBody).arr),
    "/startimp": lambda arm, _: arm.start_impedance(),
    "/stopimp": lambda arm, _: arm.stop_impedance(),
    "/startwrench": lambda arm, _: arm.start_wrench(),
    "/stopwrench": lambda arm, _: arm.stop_wrench(),
    "/clearerr": lambda arm, _: arm.clear_errors(),
    "/update_param": lambda arm, body: arm.update_param(_given(body)),
    "/set_load": lambda arm, body: arm.set_load(_load(decode_body(body, LoadBody))),
    "/open_gripper": lambda arm, _: arm.gripper(1.0),
    "/close_gripper": lambda arm, _: arm.gripper(0.0),
    "/close_gripper_slow": lambda arm, _: arm.gripper(0.0, is_slow=True),
    "/move_gripper": lambda arm, body: arm.move_gripper(decode_body(body, GripperBody).gripper_pos),
    "/activate_gripper": lambda arm, _: arm.activate_gripper(),
    "/reset_gripper": lambda arm, _: arm.activate_gripper(),
}
"""What each route does with the arm and the request's body. One that needs no body takes any."""

WAITING = ("/clearerr", "/set_load")  # for the arm's driver, perhaps for seconds
JOINT_RESETS = ("/jointreset", "/reset")
SERL_PATHS = (*READINGS, *SENTENCES, *JOINT_RESETS)


def add_serl_routes(app: FastAPI, arm: SerlArm) -> None:
    """Add the routes in `SERL_PATHS` to an app whose guard knows them."""
    for path, read in READINGS.items():
        _add(app, path, _reader(arm, read))
    turn = asyncio.Lock()  # one command at a time; readings and stops wait for none
    for path, act in SENTENCES.items():
        _add(app, path, _speaker(arm, act, turn, waits=path in WAITING))
    for path in JOINT_RESETS:
        _add(app, path, _joint_reset(arm, turn))


def _add(app: FastAPI, path: str, endpoint: Endpoint) -> None:
    logged = ""  # these clients read no replies and go on posting: a refusal is logged when it begins

    async def answer(request: Request) -> Response:
        nonlocal logged
        try:
            response = await endpoint(request)
        except (Refusal, RobotError) as error:
            kind = error.kind if isinstance(error, Refusal) else type(error).__name__
            if kind != logged:
                logger.warning("%s of a HIL-SERL client is refused: %s", path, error)
            logged = kind
            return _text(str(error), error.status or 503)
        logged = ""
        return response

    app.add_api_route(path, answer, methods=["POST"], include_in_schema=False, response_model=None)


def _reader(arm: SerlArm, read: Callable[[RobotState], Reading]) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        return Response(msgspec.json.encode(read(arm.state())), media_type="application/json")

    return endpoint


def _speaker(arm: SerlArm, act: Callable[[SerlArm, bytes], str], turn: asyncio.Lock, *, waits: bool) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        body = await read_body(request)
        async with turn:
            return _text(await asyncio.to_thread(act, arm, body) if waits else act(arm, body))

    return endpoint


def _joint_reset(arm: SerlArm, turn: asyncio.Lock) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        await read_body(request)  # or the end of the body is taken for the client's next sign of life
        async with turn:
            job = await asyncio.to_thread(arm.begin_joint_reset)
        while job.state == "running":
            if await request.is_disconnected():
                arm.let_go()
                return _text("the client is gone: the arm holds", CLOSED_REQUEST)
            await asyncio.sleep(LOOK_S)
            job = arm.follow(job)
        return _text(arm.finish_joint_reset(job))

    return endpoint


def _text(sentence: str, status: int = 200) -> Response:
    return Response(sentence, status, media_type="text/plain")


def _given(body: bytes) -> dict[str, float]:
    """Return the compliance parameters that the body names, and no defaults for the others."""
    values = decode_body(body, Compliance)
    return {name: getattr(values, name) for name in json.loads(body)}


def _load(body: LoadBody) -> LoadCommand:
    return LoadCommand(epoch=0, mass_kg=body.mass, center_m=body.F_x_center_load, inertia_kg_m2=body.load_inertia)


def _reading(state: RobotState) -> Reading:
    return {
        "pose": state.tcp_pose,
        "vel": state.tcp_twist,
        "force": _exerted(state, state.tcp_wrench[:3]),
        "torque": _exerted(state, state.tcp_wrench[3:]),
        "q": state.q,
        "dq": state.dq,
        "jacobian": state.jacobian,
        "gripper_pos": state.gripper,
    }


def _exerted(state: RobotState, vector: tuple[float, ...]) -> Vector3:
    """Return a force or torque as libfranka's ``K_F_ext_hat_K``, which HIL-SERL reads.

    It is in the tool frame, and what the robot exerts: ours is in the base frame, and what the world exerts.
    """
    x, y, z, w = state.tcp_pose[3:]
    fx, fy, fz = rotated((-x, -y, -z, w), vector)
    return (-fx, -fy, -fz)


def _euler(state: RobotState) -> list[float]:
    """Return the orientation as extrinsic xyz Euler angles in rad."""
    angles: list[float] = quaternion_to_euler(np.array(state.tcp_pose[3:])).tolist()
    return angles
