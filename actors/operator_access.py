"""Puts together what lets operators reach a running actor: the link, the desk, and a thread for their chores."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from actors.chores import Chores
from actors.frames_to_review import FramesToReview
from actors.free_robot import free_robot
from actors.operator_desk import OperatorDesk, TakeLabel
from actors.operator_link import OperatorLink
from actors.operator_pictures import OperatorPictures
from actors.step_reports import StepReports, Watched
from actors.veto_file import VetoFile
from actors.vision import CameraVision
from serl_core.clock import Clock
from serl_core.errors import RobotError
from serl_core.operator.messages import ADDRESS_SUFFIX, OperatorNotice, Recover, ResumeRobot, Veto
from serl_core.robots.interface import Robot


class OperatorAccess(NamedTuple):
    """What the actor's loop needs of it."""

    desk: OperatorDesk
    reports: StepReports


@contextmanager
def operator_access(
    run: Path | None,
    actor_id: str,
    env: Watched,
    *,
    session: str,
    robot_url: str | None = None,
    vision: CameraVision | None = None,
    review: FramesToReview | None = None,
    vetoes: VetoFile | None = None,
    take_label: TakeLabel | None = None,
    awaits_person: bool = False,
    now: Clock = time.monotonic,
) -> Iterator[OperatorAccess]:
    """Let operators in while the context lasts.

    Args:
        run: folder that gets the file for consoles; without one nobody comes in.
        robot_url: of the robot server behind `env`: a console lets nobody steer an arm that it does not stop.
        take_label: gets the labels, if they are not for the running episode as a whole.
        review: keeps the frames of vetoed successes.
        vetoes: keeps the vetoes, until the spool has them.
        awaits_person: nothing moves before the first one takes a control.

    Raises:
        DataError: the file cannot be written.
    """
    pictures = OperatorPictures(
        dict if vision is None else vision.newest_frames, env.task.config.observation.cameras, now=now
    )
    with ExitStack() as stack:
        chores = Chores()

        def free(request: Recover | ResumeRobot) -> None:
            if not chores.do(lambda: desk.tell(free_robot(env.robot, request))):
                desk.tell(OperatorNotice(level="error", text="the robot is not freed: it has not answered yet"))

        def deny(veto: Veto) -> None:
            if not chores.do(lambda: keep(veto)):
                desk.notify("error", "too much waits: a veto is lost if this actor is killed within a second")

        def keep(veto: Veto) -> None:
            if vetoes is not None:
                vetoes.add(veto.session, veto.episode)
            if review is not None:
                review.deny()

        desk = OperatorDesk(
            now=now,
            free=free,
            deny=deny,
            picture=pictures.picture,
            take_label=take_label,
            awaits_person=awaits_person and run is not None,
        )
        reports = StepReports(desk, env, session, camera_age_s=pictures.age_s, now=now)
        if run is not None:
            stack.enter_context(chores)
            server = None if robot_url is None else _server_of(env.robot)
            path = run / f"{actor_id}{ADDRESS_SUFFIX}"
            link = OperatorLink(path, desk.receive, robot=robot_url, server=server, now=now)
            desk.listeners = stack.enter_context(link)
        yield OperatorAccess(desk, reports)


def _server_of(robot: Robot) -> str | None:
    """Return which start of the robot server it is; None if it does not say, or is not there yet."""
    try:
        return robot.health().server
    except RobotError:  # whoever connects to it says why
        return None
