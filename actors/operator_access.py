"""Puts together what lets operators reach a running actor: the link, the desk, and a thread for their chores."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from actors.chores import Chores
from actors.frames_to_review import FramesToReview
from actors.free_robot import free_robot
from actors.operator_desk import OperatorDesk
from actors.operator_link import OperatorLink
from actors.operator_pictures import OperatorPictures
from actors.step_reports import StepReports
from actors.vision import CameraVision
from serl_core.clock import Clock
from serl_core.envs.arm_env import ArmEnv
from serl_core.operator.messages import ADDRESS_SUFFIX, OperatorNotice, Recover, ResumeRobot


class OperatorAccess(NamedTuple):
    """What the actor's loop needs of it."""

    desk: OperatorDesk
    reports: StepReports


@contextmanager
def operator_access(
    run: Path | None,
    actor_id: str,
    env: ArmEnv,
    *,
    session: str,
    vision: CameraVision | None = None,
    review: FramesToReview | None = None,
    awaits_person: bool = False,
    now: Clock = time.monotonic,
) -> Iterator[OperatorAccess]:
    """Let operators in while the context lasts.

    Args:
        run: folder that gets the file for consoles; without one nobody comes in.
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

        def deny() -> None:
            if review is not None:
                chores.do(review.deny)

        desk = OperatorDesk(
            now=now, free=free, deny=deny, picture=pictures.picture, awaits_person=awaits_person and run is not None
        )
        reports = StepReports(desk, env, session, camera_age_s=pictures.age_s, now=now)
        if run is not None:
            stack.enter_context(chores)
            link = OperatorLink(run / f"{actor_id}{ADDRESS_SUFFIX}", desk.receive, now=now)
            desk.listeners = stack.enter_context(link)
        yield OperatorAccess(desk, reports)
