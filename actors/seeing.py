"""Puts together what an actor sees with: cameras, the frozen encoder, the reward classifier."""

from pathlib import Path

from actors.vision import CameraVision
from serl_core.agents.acting_classifier import load_classifier
from serl_core.agents.classifier_gate import check_quality
from serl_core.config import RewardKind, TaskConfig
from serl_core.errors import ConfigError
from serl_core.networks.perception import ImageEncoder, Perception


def vision_for(
    task: TaskConfig,
    perception: Perception,
    *,
    classifier: Path | None = None,
    allow_poor_classifier: bool = False,
    seed: int = 0,
) -> CameraVision | None:
    """Return the vision of a task; None for one without cameras.

    Args:
        classifier: file of the reward classifier, for a task whose reward it gives.
        allow_poor_classifier: one that rewards failures, or of which nobody has measured it, is used all the same.
        seed: of the shifts of features' copies.

    Raises:
        ConfigError: a classifier is given to a task of another reward, or needed and not given; or it is of
            another task or rule, other cameras or another encoder, or rewards failures.
        DataError: the classifier is not there, or not whole.
    """
    needs_classifier = task.reward.kind is RewardKind.CLASSIFIER
    if classifier is not None and not needs_classifier:
        raise ConfigError(
            f"--classifier: the reward of task {task.name!r} is {task.reward.kind.value!r}; leave it out, or set "
            "RewardConfig.kind to classifier"
        )
    if needs_classifier and classifier is None:
        raise ConfigError(
            f"RewardConfig.kind: task {task.name!r} asks for a classifier and there is none; train one with "
            "`serl classifier` and give it with --classifier"
        )
    if perception.frozen is None:
        return None
    encode = ImageEncoder(perception.frozen, copies=perception.stored.feature_copies, seed=seed)
    if classifier is None:
        return CameraVision(task.observation, encode=encode)
    judge = load_classifier(classifier, encoder=perception.frozen.identity, task=task)
    check_quality(classifier, judge.facts.metrics, allow_poor=allow_poor_classifier)
    return CameraVision(task.observation, encode=encode, classify=judge.classify, success_threshold=judge.threshold)
