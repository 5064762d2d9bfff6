"""`serl classifier record|train|eval|review`: from labelled frames to a reward classifier, and back to correct them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import tyro

from serl_core.cli.classifier_recording import RecordFrames, record_classifier_frames, task_with_images
from serl_core.config import TaskConfig
from serl_core.data.labelled_frames import LabelledFrames, require_images
from serl_core.errors import ConfigError
from serl_core.image_config import FrameFormat

CONTACT_SHEET = "contact_sheet.png"


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
            record_classifier_frames(args)
        case TrainOnFrames():
            _train(args)
        case EvalOnFrames():
            _evaluate(args)
        case ReviewFrames():
            _review(args)
    return 0


def _train(args: TrainOnFrames) -> None:
    from learners.classifier import CLASSIFIER, ClassifierPlan, train_classifier
    from serl_core.agents.classifier_gate import fault_of
    from serl_core.agents.reward_classifier import ClassifierConfig
    from serl_core.data.labelled_frames import load_folders
    from serl_core.networks.compilation import enable_compilation_cache
    from serl_core.networks.frozen import load_encoder

    task = task_with_images(args.task)
    plan = ClassifierPlan(
        network=ClassifierConfig(steps=args.steps),
        frames=task.config.reward.frames,
        tcp_z_m=task.config.reward.tcp_z_m,
        false_positive_rate=args.false_positive_rate,
        seed=args.seed,
    )
    episodes = load_folders(args.data, images=args.images)
    _check_frames(task.config, episodes[0], args.data[0])
    enable_compilation_cache()
    report = train_classifier(episodes, load_encoder(task.config.observation.encoder), plan, args.out)
    fault = fault_of(msgspec.to_builtins(report))
    refused = [] if fault is None else [f"serl actor, record, eval and train will refuse it: {fault}"]
    print("\n".join([*report.lines(), *refused, f"{args.out / CLASSIFIER}"]))


def _evaluate(args: EvalOnFrames) -> None:
    from learners.classifier import BatchEncoder, predict
    from learners.classifier_report import assess
    from serl_core.agents.acting_classifier import load_classifier
    from serl_core.data.labelled_frames import load_folders
    from serl_core.networks.compilation import enable_compilation_cache
    from serl_core.networks.frozen import load_encoder

    config = task_with_images(args.task).config
    enable_compilation_cache()
    encoder = load_encoder(config.observation.encoder)
    classifier = load_classifier(args.classifier, encoder=encoder.identity, task=config)
    episodes = load_folders(args.data, images=classifier.facts.image_shapes)
    _check_frames(config, episodes[0], args.data[0])
    probability = predict(classifier, BatchEncoder(encoder), episodes)
    rule = config.reward
    report = assess(episodes, probability, frames=rule.frames, threshold=classifier.threshold, tcp_z_m=rule.tcp_z_m)
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


def _check_frames(config: TaskConfig, frames: LabelledFrames, folder: Path) -> None:
    """Refuse frames that were recorded for another task, or with other cameras or crops."""
    if frames.task != config.name:
        raise ConfigError(
            f"--data {folder}: its frames are of task {frames.task!r}, not of {config.name!r}; name folders of this "
            "task, or record the frames anew"
        )
    require_images(f"--data {folder}", frames.image_shapes(), frames.origins, config)
