"""`serl classifier record`: frames labelled by the simulator's truth, or by a person at the arm or at the page."""

import uuid
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from actors.teleop.puck import SpaceMouseConfig
from serl_core.cli.processes import ended_by_signals
from serl_core.envs.task import Task, load_task
from serl_core.errors import ConfigError
from serl_core.threads import dying_together

if TYPE_CHECKING:
    from actors.classifier_data import Episode, FrameRecorder, Wanted
    from actors.frames_at_page import PageFrames
    from actors.label_buttons import ButtonLabel
    from actors.label_key import KeyLabel
    from actors.page_label import PageLabel
    from actors.teleop.interface import Teleop
    from actors.teleop.puck_thread import PuckThread
    from actors.vision import CameraVision
    from serl_core.robots.messages import Health

REACTION_S = 0.5  # of a person who labels
HELD = {"key": "the space bar", "button": "the SpaceMouse's button"}  # while the task is done


@dataclass(frozen=True, kw_only=True)
class RecordFrames:
    """Collect frames labelled success or not."""

    task: str
    out: Path  # folder of the frames; new episodes are added
    positives: int = 200
    negatives: int = 1000
    label: Literal["truth", "key", "button", "page"] = "truth"
    """Of the simulator, or a person who holds the space bar, or a SpaceMouse's button, while the task is done; at the
    page of `serl console` success while it is done, failure while it is not."""
    label_buttons: tuple[str, ...] = ("last",)
    """The SpaceMouse's, by name; "first" and "last" are the ends of its list of buttons."""
    teleop: Literal["hand", "spacemouse", "browser"] = "hand"
    """How a person moves the arm: a real one by its tool, or any with a SpaceMouse, or from the page."""
    spacemouse: SpaceMouseConfig = field(default_factory=SpaceMouseConfig)
    robot: str = "http://127.0.0.1:5000"
    token_file: Path | None = None
    run: Path | None = None  # for the page: folder where `serl console` finds this recorder
    actor_id: str = "recorder"
    seed: int = 0

    @property
    def is_at_page(self) -> bool:
        """Whether a person is at the console's page."""
        return self.label == "page" or self.teleop == "browser"

    def __post_init__(self) -> None:
        if self.is_at_page != (self.run is not None):
            raise ConfigError(
                "--run: goes with --label page or --teleop browser, for which the page finds the recorder by the "
                f"console's folder; got --run {self.run}, --label {self.label}, --teleop {self.teleop}"
            )
        if len(self.spacemouse.devices) > 1:
            raise ConfigError(f"--spacemouse.devices: one arm is recorded here, got {self.spacemouse.devices}")


def record_classifier_frames(args: RecordFrames) -> None:
    """Record until there are enough frames of both kinds, and say how many.

    Raises:
        SerlError: an argument, the robot, a camera or the folder is not as it must be.
    """
    from actors.absence import Absence
    from actors.classifier_data import FrameRecorder, Wanted, record_frames, surviving, truth_label
    from actors.page_label import PageLabel
    from actors.vision import CameraVision
    from serl_core.robots.http_client import HttpRobot

    task = task_with_images(args.task)
    with ended_by_signals(), dying_together(), ExitStack() as stack:
        puck = _open_puck(args, stack)
        person = _person(args, puck, stack)
        robot = stack.enter_context(closing(HttpRobot(args.robot, owner="classifier", token_file=args.token_file)))
        robot.connect()
        health = robot.health()
        if person is None and not health.is_simulated:
            raise ConfigError(
                "--label: truth is the simulator's, and this robot is real; use --label key, button or page"
            )
        _check_page(args, health)
        vision = stack.enter_context(closing(CameraVision(task.config.observation)))
        vision.open(robot)
        recorder = FrameRecorder(
            task,
            robot,
            vision,
            person or truth_label,
            is_lockstep=health.clock == "lockstep",
            reaction_steps=round(REACTION_S * task.config.control_hz) if person else 0,
            begin_label=None if person is None or isinstance(person, PageLabel) else person.begin_episode,
        )
        wanted = Wanted(args.positives, args.negatives)
        if args.is_at_page:
            page = person if isinstance(person, PageLabel) else None
            episodes = _at_page(args, task, recorder, vision, puck, page, wanted, stack)
            count = record_frames(episodes, wanted, args.out, saved=episodes.saved)
        else:
            episode = surviving(_episode(args, task, recorder, puck, health), recorder, Absence(robot))
            count = record_frames(episode, wanted, args.out)
    print(f"{count.positives} positive and {count.negatives} negative frames in {args.out}")


def _check_page(args: RecordFrames, robot: "Health") -> None:
    """Refuse a person at the page where the arm is too fast for one, or where nobody would move it."""
    from actors.teleop.choice import TeleopKind, check_person

    if not args.is_at_page:
        return
    check_person(robot, TeleopKind.SPACEMOUSE if args.teleop == "spacemouse" else TeleopKind.BROWSER)
    if robot.is_simulated and args.teleop == "hand":
        raise ConfigError(
            "--teleop hand: nobody can take a simulated arm by its tool; with --label page give --teleop browser or "
            "spacemouse"
        )


def _episode(
    args: RecordFrames, task: Task, recorder: "FrameRecorder", puck: "PuckThread | None", robot: "Health"
) -> "Episode":
    """Return the episodes of the scripted human in simulation, or of a person at the arm."""
    from actors.classifier_data import handled_episode, scripted_episode

    teleop = _puck_teleop(args, task, recorder, puck)
    if teleop is None and robot.is_simulated:
        return scripted_episode(task, recorder, seed=args.seed)
    return handled_episode(task, recorder, seed=args.seed, teleop=teleop, held=HELD.get(args.label))


def _puck_teleop(
    args: RecordFrames, task: Task, recorder: "FrameRecorder", puck: "PuckThread | None"
) -> "Teleop | None":
    """Return the SpaceMouse as what moves the arm, if it is."""
    from actors.teleop.spacemouse import make_spacemouse

    if args.teleop != "spacemouse" or puck is None:
        return None
    return make_spacemouse(task.config.action.spec, args.spacemouse, {"": recorder.now}, pucks=[puck])


def _at_page(
    args: RecordFrames,
    task: Task,
    recorder: "FrameRecorder",
    vision: "CameraVision",
    puck: "PuckThread | None",
    labels: "PageLabel | None",
    wanted: "Wanted",
    stack: ExitStack,
) -> "PageFrames":
    """Let people at the page in until `stack` closes; return their episodes."""
    from actors.frames_at_page import PageFrames
    from actors.operator_access import operator_access
    from actors.teleop.browser import BrowserTeleop

    session = uuid.uuid4().hex
    desk, reports = stack.enter_context(
        operator_access(
            args.run,
            args.actor_id,
            recorder,
            session=session,
            robot_url=args.robot,
            vision=vision,
            take_label=None if labels is None else labels.receive,
            awaits_person=True,
        )
    )
    teleop = _puck_teleop(args, task, recorder, puck)
    if args.teleop == "browser":
        teleop = BrowserTeleop(task.config.action.spec, desk, recorder.now, is_demonstrating=True)
        stack.enter_context(closing(teleop)).open()
    return PageFrames(recorder, desk, reports, wanted, session=session, seed=args.seed, labels=labels, teleop=teleop)


def _open_puck(args: RecordFrames, stack: ExitStack) -> "PuckThread | None":
    """Return the SpaceMouse that labels or moves the arm, open until `stack` closes; None if neither is asked for."""
    from actors.teleop.puck_device import PuckDevice
    from actors.teleop.puck_thread import PuckThread

    if args.label != "button" and args.teleop != "spacemouse":
        return None
    puck = PuckThread(PuckDevice(*args.spacemouse.devices))
    puck.open()
    stack.callback(puck.close)
    return puck


def _person(
    args: RecordFrames, puck: "PuckThread | None", stack: ExitStack
) -> "KeyLabel | ButtonLabel | PageLabel | None":
    """Return what the person who labels presses; None if it is not a person."""
    from actors.label_buttons import ButtonLabel, check_label_buttons
    from actors.label_key import KeyLabel, terminal_keys
    from actors.page_label import PageLabel

    if args.label == "page":
        return PageLabel()
    if args.label == "key":
        return KeyLabel(stack.enter_context(terminal_keys()))
    if args.label == "button" and puck is not None:
        check_label_buttons(puck.read(), args.label_buttons)
        return ButtonLabel(puck.read, args.label_buttons)
    return None


def task_with_images(name: str) -> Task:
    """Return the task of a name or file. Raises ConfigError if it has no cameras."""
    task = load_task(name)
    if not task.config.observation.cameras:
        raise ConfigError(
            f"task {name!r}: has no cameras, and a classifier needs images; give ObservationConfig.cameras"
        )
    return task
