"""`serl classifier record|train|eval|review`: from labelled frames to a reward classifier, and back to correct them."""

from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from actors.teleop.puck import SpaceMouseConfig
from serl_core.cli.processes import ended_by_signals
from serl_core.config import TaskConfig
from serl_core.data.labelled_frames import LabelledFrames, require_images
from serl_core.envs.task import Task, load_task
from serl_core.errors import ConfigError
from serl_core.image_config import FrameFormat

if TYPE_CHECKING:
    from actors.label_buttons import ButtonLabel
    from actors.label_key import KeyLabel
    from actors.teleop.puck_thread import PuckThread

CONTACT_SHEET = "contact_sheet.png"
REACTION_S = 0.5  # of a person who labels
HELD = {"key": "the space bar", "button": "the SpaceMouse's button"}  # while the task is done


@dataclass(frozen=True, kw_only=True)
class RecordFrames:
    """Collect frames labelled success or not."""

    task: str
    out: Path  # folder of the frames; new episodes are added
    positives: int = 200
    negatives: int = 1000
    label: Literal["truth", "key", "button"] = "truth"
    """Of the simulator, or a person who holds the space bar, or a SpaceMouse's button, while the task is done."""
    label_buttons: tuple[str, ...] = ("last",)
    """The SpaceMouse's, by name; "first" and "last" are the ends of its list of buttons."""
    teleop: Literal["hand", "spacemouse"] = "hand"
    """How a person moves a real arm: by its tool, or with a SpaceMouse."""
    spacemouse: SpaceMouseConfig = field(default_factory=SpaceMouseConfig)
    robot: str = "http://127.0.0.1:5000"
    token_file: Path | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.spacemouse.devices) > 1:
            raise ConfigError(f"--spacemouse.devices: one arm is recorded here, got {self.spacemouse.devices}")


@dataclass(frozen=True, kw_only=True)
class TrainOnFrames:
    """Train a classifier and choose its threshold; writes classifier.safetensors, report.json, reliability.png."""

    task: str
    data: tuple[Path, ...]  # folders of labelled frames
    out: Path  # folder of the classifier
    false_positive_rate: float = 0.01  # at most, on the episodes held back
    images: tuple[str, ...] | None = None  # the names to read; all of them if not given
    steps: int = 400
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class EvalOnFrames:
    """Score a classifier on frames that it was not trained on."""

    task: str
    classifier: Path
    data: tuple[Path, ...]
    out: Path | None = None  # folder for report.json and reliability.png


@dataclass(frozen=True, kw_only=True)
class ReviewFrames:
    """Draw the frames of a folder with their numbers, or write them anew with corrected labels."""

    folder: Annotated[Path, tyro.conf.Positional]
    labels: Path | None = None  # lines "NUMBER success", "NUMBER failure" or "NUMBER drop"
    out: Path | None = None  # folder of the corrected frames; needed with --labels


ClassifierArgs = (
    Annotated[RecordFrames, tyro.conf.subcommand("record")]
    | Annotated[TrainOnFrames, tyro.conf.subcommand("train")]
    | Annotated[EvalOnFrames, tyro.conf.subcommand("eval")]
    | Annotated[ReviewFrames, tyro.conf.subcommand("review")]
)


def run_classifier(args: RecordFrames | TrainOnFrames | EvalOnFrames | ReviewFrames) -> int:
    """Do what was asked for; return 0.

    Raises:
        SerlError: an argument, the robot, a camera or a file is not as it must be.
    """
    match args:
        case RecordFrames():
            _record(args)
        case TrainOnFrames():
            _train(args)
        case EvalOnFrames():
            _evaluate(args)
        case ReviewFrames():
            _review(args)
    return 0


def _record(args: RecordFrames) -> None:
    from actors.classifier_data import (
        FrameRecorder,
        Wanted,
        handled_episode,
        record_frames,
        scripted_episode,
        truth_label,
    )
    from actors.teleop.spacemouse import make_spacemouse
    from actors.vision import CameraVision
    from serl_core.robots.http_client import HttpRobot

    task = _task_with_images(args.task)
    with ended_by_signals(), ExitStack() as stack:
        puck = _open_puck(args, stack)
        person = _person(args, puck, stack)
        robot = stack.enter_context(closing(HttpRobot(args.robot, owner="classifier", token_file=args.token_file)))
        robot.connect()
        health = robot.health()
        if person is None and not health.is_simulated:
            raise ConfigError("--label: truth is the simulator's, and this robot is real; use --label key or button")
        vision = stack.enter_context(closing(CameraVision(task.config.observation)))
        vision.open(robot)
        recorder = FrameRecorder(
            task,
            robot,
            vision,
            person or truth_label,
            is_lockstep=health.clock == "lockstep",
            reaction_steps=round(REACTION_S * task.config.control_hz) if person else 0,
            begin_label=person.begin_episode if person else None,
        )
        if args.teleop == "spacemouse" and puck is not None:
            teleop = make_spacemouse(task.config.action.spec, args.spacemouse, {"": recorder.now}, pucks=[puck])
            episode = handled_episode(task, recorder, seed=args.seed, teleop=teleop, held=HELD.get(args.label))
        elif health.is_simulated:
            episode = scripted_episode(task, recorder, seed=args.seed)
        else:
            episode = handled_episode(task, recorder, seed=args.seed, held=HELD.get(args.label))
        count = record_frames(episode, Wanted(args.positives, args.negatives), args.out)
    print(f"{count.positives} positive and {count.negatives} negative frames in {args.out}")


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


def _person(args: RecordFrames, puck: "PuckThread | None", stack: ExitStack) -> "KeyLabel | ButtonLabel | None":
    """Return what the person who labels presses; None if it is not a person."""
    from actors.label_buttons import ButtonLabel, check_label_buttons
    from actors.label_key import KeyLabel, terminal_keys

    if args.label == "key":
        return KeyLabel(stack.enter_context(terminal_keys()))
    if args.label == "button" and puck is not None:
        check_label_buttons(puck.read(), args.label_buttons)
        return ButtonLabel(puck.read, args.label_buttons)
    return None


def _train(args: TrainOnFrames) -> None:
    from learners.classifier import CLASSIFIER, ClassifierPlan, train_classifier
    from serl_core.agents.reward_classifier import ClassifierConfig
    from serl_core.data.labelled_frames import load_folders
    from serl_core.networks.compilation import enable_compilation_cache
    from serl_core.networks.frozen import load_encoder

    task = _task_with_images(args.task)
    plan = ClassifierPlan(
        network=ClassifierConfig(steps=args.steps),
        frames=task.config.reward.frames,
        false_positive_rate=args.false_positive_rate,
        seed=args.seed,
    )
    episodes = load_folders(args.data, images=args.images)
    _check_frames(task.config, episodes[0], args.data[0])
    enable_compilation_cache()
    report = train_classifier(episodes, load_encoder(task.config.observation.encoder), plan, args.out)
    print("\n".join([*report.lines(), f"{args.out / CLASSIFIER}"]))


def _evaluate(args: EvalOnFrames) -> None:
    from learners.classifier import BatchEncoder, predict
    from learners.classifier_report import assess
    from serl_core.agents.acting_classifier import load_classifier
    from serl_core.data.labelled_frames import load_folders
    from serl_core.networks.compilation import enable_compilation_cache
    from serl_core.networks.frozen import load_encoder

    config = _task_with_images(args.task).config
    enable_compilation_cache()
    encoder = load_encoder(config.observation.encoder)
    classifier = load_classifier(args.classifier, encoder=encoder.identity, task=config)
    episodes = load_folders(args.data, images=classifier.facts.image_shapes)
    _check_frames(config, episodes[0], args.data[0])
    probability = predict(classifier, BatchEncoder(encoder), episodes)
    report = assess(episodes, probability, frames=config.reward.frames, threshold=classifier.threshold)
    if args.out is not None:
        report.write(args.out)
    print("\n".join(report.lines()))


def _review(args: ReviewFrames) -> None:
    from serl_core.data.frames import compress
    from serl_core.data.label_review import contact_sheet, correct, read_corrections
    from serl_core.data.labelled_frames import count_labels, labelled_paths, load_labelled, save_labelled

    paths = labelled_paths(args.folder)
    episodes = [load_labelled(path) for path in paths]
    if args.labels is None:
        sheet = args.folder / CONTACT_SHEET
        sheet.write_bytes(compress({"sheet": contact_sheet(episodes)}, FrameFormat.PNG)["sheet"].tobytes())
        print(f"{sheet}: {sum(count_labels(episodes))} frames; correct them with --labels FILE --out FOLDER")
        return
    if args.out is None or (args.out.exists() and any(args.out.iterdir())):
        raise ConfigError(f"--out: needs a new or empty folder for the corrected frames, got {args.out}")
    corrected = correct(episodes, read_corrections(args.labels))
    for path, episode in zip(paths, corrected, strict=True):
        if episode is not None:
            save_labelled(args.out / path.name, episode)
    positives, negatives = count_labels([episode for episode in corrected if episode is not None])
    print(f"{args.out}: {positives} positive and {negatives} negative frames")


def _task_with_images(name: str) -> Task:
    task = load_task(name)
    if not task.config.observation.cameras:
        raise ConfigError(
            f"task {name!r}: has no cameras, and a classifier needs images; give ObservationConfig.cameras"
        )
    return task


def _check_frames(config: TaskConfig, frames: LabelledFrames, folder: Path) -> None:
    """Refuse frames that were recorded for another task, or with other cameras or crops."""
    if frames.task != config.name:
        raise ConfigError(
            f"--data {folder}: its frames are of task {frames.task!r}, not of {config.name!r}; name folders of this "
            "task, or record the frames anew"
        )
    require_images(f"--data {folder}", frames.image_shapes(), frames.origins, config)
