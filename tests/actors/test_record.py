import pytest

from actors.actor import ActorLoop
from actors.record import record
from examples.ram_insertion import CONFIG
from serl_core.data.episode_file import load_episode
from serl_core.data.episode_log import load_episodes
from serl_core.errors import ConfigError, DataError, SerlError
from serl_core.operator.messages import Label, Pause, RecordProgress, Resume, Veto
from serl_core.types import EndReason
from tests.actors.fakes import ListedTeleop, nothing, open_env, towards_target
from tests.actors.test_actor_with_operator import Rig as OperatorRig


def loop(act=towards_target, session="test", **changes):
    return ActorLoop(open_env(**changes), act, ListedTeleop(), session=session)


def test_each_demonstration_is_saved_when_its_episode_ends(tmp_path):
    """Fault 17 of earlier systems: all were saved at the very end, so a crash on the 19th of 20 lost them all."""
    recording = record(loop(), 2, tmp_path, task_digest=CONFIG.digest())
    assert [load_episode(path)[-1].end for path in recording.saved] == [EndReason.SUCCESS] * 2

    class Crash(Exception):
        pass

    crashing = loop()
    steps = [0]
    step = crashing.step

    def step_or_crash():
        steps[0] += 1
        if crashing.episode == 1 and steps[0] % 5 == 0:
            raise Crash
        return step()

    crashing.step = step_or_crash
    with pytest.raises(Crash):
        record(crashing, 5, tmp_path, task_digest=CONFIG.digest())
    assert len(list(load_episodes(tmp_path))) == 3


def test_new_demonstrations_come_after_those_that_the_folder_has(tmp_path):
    record(loop(session="first"), 2, tmp_path, task_digest=CONFIG.digest())
    record(loop(session="second"), 1, tmp_path, task_digest=CONFIG.digest())
    assert [episode[0].provenance.session for episode in load_episodes(tmp_path)] == ["first", "first", "second"]


def test_a_demonstration_moved_away_makes_room_for_no_other(tmp_path):
    """The next number was the count of files: with the first one moved away, the last one was overwritten."""
    first = record(loop(session="first"), 2, tmp_path, task_digest=CONFIG.digest())
    first.saved[0].unlink()
    second = record(loop(session="second"), 1, tmp_path, task_digest=CONFIG.digest())
    assert second.saved == (tmp_path / "demonstration-0002.safetensors",)
    assert [episode[0].provenance.session for episode in load_episodes(tmp_path)] == ["first", "second"]


def test_another_recorder_s_demonstration_is_not_overwritten(tmp_path):
    """An existing file was replaced without a word."""
    recorder = loop()
    step, foreign = recorder.step, tmp_path / "demonstration-0000.safetensors"

    def step_beside_another():
        foreign.write_bytes(b"theirs")
        return step()

    recorder.step = step_beside_another
    with pytest.raises(DataError, match=r"demonstration-0000\.safetensors is there already"):
        record(recorder, 1, tmp_path, task_digest=CONFIG.digest())
    assert foreign.read_bytes() == b"theirs"


def test_failed_episodes_are_counted_and_not_kept(tmp_path):
    """Every second episode here ends by the time limit."""
    recorder = loop(time_limit_steps=40)
    act = recorder._act
    recorder._act = lambda observation: act(observation) if recorder.episode % 2 else nothing(observation)
    recording = record(recorder, 2, tmp_path, task_digest=CONFIG.digest())
    assert (len(recording.saved), recording.failed) == (2, 2)
    assert len(list(load_episodes(tmp_path))) == 2


def test_it_gives_up_after_ten_failures_in_a_row_and_says_what_is_saved(tmp_path):
    with pytest.raises(SerlError, match=r"10 demonstrations in a row failed; 0 of 3 are saved"):
        record(loop(nothing, time_limit_steps=1), 3, tmp_path, task_digest=CONFIG.digest())


def test_no_demonstrations_are_too_few(tmp_path):
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        record(loop(), 0, tmp_path, task_digest=CONFIG.digest())


def test_a_demonstration_whose_success_the_simulator_denies_is_not_kept(tmp_path, caplog):
    """It was saved as a success: the policy learned from the first step on to fool the classifier."""
    recorder = loop()
    step = recorder.step

    def step_and_fool():
        transition = step()
        recorder.is_false_success = transition.end is EndReason.SUCCESS and recorder.episode == 0
        return transition

    recorder.step = step_and_fool
    with caplog.at_level("INFO"):
        recording = record(recorder, 1, tmp_path, task_digest=CONFIG.digest())
    assert recording.failed == 1
    assert "not kept: ended by false_success" in caplog.text
    assert load_episode(recording.saved[0])[0].provenance.episode == 1


def watched(act=towards_target, **changes):
    """Return a recorder's loop with somebody who looks on, in real time for all it knows."""
    rig = OperatorRig(act, is_lockstep=False, **changes)
    return rig, {"desk": rig.desk, "now": rig.clock, "sleep": rig.loop._sleep}


def test_a_demonstration_that_an_operator_vetoes_within_a_second_is_not_kept(tmp_path):
    def veto(rig):
        if len(rig.sleeps) == 1:
            rig.say(Veto(operator="ann", session="s", episode=0))

    rig, options = watched(sleep=veto)
    recording = record(rig.loop, 1, tmp_path, task_digest=CONFIG.digest(), **options)
    assert recording.failed == 1
    assert load_episode(recording.saved[0])[0].provenance.episode == 1
    assert sum(rig.sleeps) > 2.0  # for each of the two


def test_operators_hear_how_far_a_recording_is(tmp_path):
    rig, options = watched(sleep=lambda _: None)
    rig.before[0] = [lambda: rig.say(Label(operator="ann", label="discard"))]
    record(rig.loop, 2, tmp_path, task_digest=CONFIG.digest(), **options)
    told = [(said.kept, said.wanted, said.failed) for said in rig.everybody.told if isinstance(said, RecordProgress)]
    assert told == [(0, 2, 0), (0, 2, 1), (1, 2, 1), (2, 2, 1)]


def test_an_operators_label_makes_a_demonstration(tmp_path):
    rig, options = watched(nothing, sleep=lambda _: None)
    rig.before[3] = [lambda: rig.say(Label(operator="ann", label="success"))]
    recording = record(rig.loop, 1, tmp_path, task_digest=CONFIG.digest(), **options)
    episode = load_episode(recording.saved[0])
    assert [int(step.end) for step in episode] == [0, 0, 0, EndReason.SUCCESS]
    assert (episode[-1].reward, episode[-1].discount) == (1.0, 0.0)


def test_a_demonstration_begins_anew_after_a_pause(tmp_path):
    """The steps before and after a pause were one episode in the file."""
    rig, options = watched(sleep=lambda rig: rig.say(Resume(operator="ann")))
    rig.before[2] = [lambda: rig.say(Pause(operator="ann"))]
    rig.before[4] = [lambda: rig.say(Label(operator="ann", label="success"))]
    recording = record(rig.loop, 1, tmp_path, task_digest=CONFIG.digest(), **options)
    episode = load_episode(recording.saved[0])
    assert [step.provenance.sequence for step in episode] == [2, 3, 4]
    assert {step.provenance.episode for step in episode} == {episode[0].provenance.episode}


def test_episodes_that_a_person_throws_away_are_no_failures_in_a_row(tmp_path):
    rig, options = watched(sleep=lambda _: None)
    for number in range(12):
        rig.before[number] = [lambda: rig.say(Label(operator="ann", label="discard"))]
    assert record(rig.loop, 1, tmp_path, task_digest=CONFIG.digest(), **options).failed == 12
