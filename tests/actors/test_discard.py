import logging

import numpy as np

from actors.discard import DiscardingLoop, HandBack
from actors.record import record
from examples.ram_insertion import CONFIG
from serl_core.data.episode_log import load_episode
from serl_core.types import EndReason
from tests.actors.fakes import ListedTeleop, command, open_env, towards_target


def discarding_loop(hands_back):
    """Return a loop that does the task, and a person who hands back in the steps listed."""
    commands = [command(0.0, is_engaged=False, hands_back=step in hands_back) for step in range(200)]
    return DiscardingLoop(open_env(), towards_target, ListedTeleop(commands), session="a" * 32)


def test_a_demonstration_handed_back_ends_as_stopped_by_the_operator_and_the_next_begins_anew():
    loop = discarding_loop({3})
    steps = [loop.step() for _ in range(6)]
    assert [step.end for step in steps] == [EndReason.RUNNING] * 3 + [EndReason.OPERATOR_STOP] + [EndReason.RUNNING] * 2
    assert [step.provenance.episode for step in steps] == [0, 0, 0, 0, 1, 1]
    assert steps[3].discount == 1.0


def test_a_demonstration_handed_back_is_not_kept_and_counts_as_failed(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        recording = record(discarding_loop({2}), 1, tmp_path, task_digest=CONFIG.digest())
    assert recording.failed == 1
    assert "not kept: ended by operator_stop after 3 steps" in caplog.text
    episode = load_episode(recording.saved[0])
    assert episode[0].provenance.episode == 1
    assert episode[-1].end is EndReason.SUCCESS


def test_a_success_handed_back_in_its_last_step_is_not_kept(tmp_path):
    steps = len(load_episode(record(discarding_loop(()), 1, tmp_path / "a", task_digest=CONFIG.digest()).saved[0]))
    recording = record(discarding_loop({steps - 1}), 1, tmp_path / "b", task_digest=CONFIG.digest())
    assert recording.failed == 1


def test_a_button_that_stays_down_throws_one_demonstration_away():
    device = HandBack(ListedTeleop([command(0.0, hands_back=down) for down in (False, True, True, False, True)]))
    seen = []
    for _ in range(5):
        assert np.all(device.read().action == 0.0)
        seen.append(device.take())
    assert seen == [False, True, False, False, True]
