import json

import pytest

from learners.relabelling import APPLIED, Relabelling
from serl_core.data.relabels import RelabelFile
from serl_core.types import EndReason
from tests.learners.test_learner import Desk
from tests.learners.test_trainer import everything
from tests.learners.toy import Run
from tests.serl_core.agents.toy import stream

STEPS = stream(0, 160)
ENDED = [(t.provenance.episode, i) for i, t in enumerate(STEPS) if t.end is not EndReason.RUNNING]
FAILED, SUCCEEDED = (  # the first episode of each kind, and its last step
    next((episode, i) for episode, i in ENDED if STEPS[i].end is end)
    for end in (EndReason.TIME_LIMIT, EndReason.SUCCESS)
)
assert max(FAILED[1], SUCCEEDED[1]) < 70


class Relabelled(Run):
    """A run that looks for corrections before each update."""

    def __init__(self, folder, **options):
        super().__init__(folder, **options)
        self.relabelling = Relabelling(folder, self.trainer)
        self.people = {}  # what they do once so many steps have been taken in

    def learn(self, logged):
        for transition in logged:
            self.trainer.insert([transition])
            self.people.get(self.trainer.pacing.env_steps, lambda: None)()
            self.relabelling.apply_due()
            self.pay()


def correcting(folder):
    """Return what people do at two moments: correct two episodes, and take one back."""
    file = RelabelFile(folder)
    (first, _), (second, _) = FAILED, SUCCEEDED
    return {
        70: lambda: (file.add("line", first, "success"), file.add("line", second, "failure")),
        120: lambda: file.undo(),
    }


def end_in_buffer(run, episode):
    buffer = run.trainer.online
    slot = buffer._ends["line", episode]
    return float(buffer._reward[slot]), float(buffer._discount[slot]), EndReason(int(buffer._end[slot]))


def test_a_correction_counts_from_the_next_update_on(tmp_path):
    run = Relabelled(tmp_path)
    episode, last = FAILED
    run.take(STEPS[: last + 1])
    RelabelFile(tmp_path).add("line", episode, "success")
    ((line, is_in_buffer),) = run.relabelling.apply_due()
    assert (line.episode, is_in_buffer) == (episode, True)
    assert end_in_buffer(run, episode) == (1.0, 0.0, EndReason.SUCCESS)
    assert run.relabelling.apply_due() == []
    run.stop()


def test_what_was_applied_is_noted_on_a_line_of_its_own_behind_a_torn_one(tmp_path):
    """It was one line with it, and forgotten: the resume applied the correction at another moment."""
    (tmp_path / APPLIED).write_bytes(b'{"number":0,"env')
    run = Relabelled(tmp_path)
    RelabelFile(tmp_path).add("elsewhere", 3, "success")
    run.relabelling.apply_due()
    assert json.loads((tmp_path / APPLIED).read_bytes().splitlines()[1])["number"] == 0
    run.stop()


def test_a_correction_of_what_is_not_in_the_buffer_says_so(tmp_path):
    run = Relabelled(tmp_path)
    RelabelFile(tmp_path).add("elsewhere", 3, "success")
    ((_, is_in_buffer),) = run.relabelling.apply_due()
    assert not is_in_buffer
    run.stop()


def uninterrupted(folder, people=correcting):
    folder.mkdir()
    run = Relabelled(folder)
    run.people = people(folder)
    run.take(STEPS)
    result = everything(run)
    run.stop()
    return result


@pytest.mark.parametrize(("saved", "logged"), [(60, 150), (100, 100), (100, 130), (130, 150)])
def test_a_run_with_corrections_is_repeated_by_a_resume_to_the_bit(tmp_path, saved, logged):
    """The corrections come after 70 and 120 steps: before or after the checkpoint, and before the crash or after it."""
    folder = tmp_path / "crashed"
    folder.mkdir()
    run = Relabelled(folder)
    people = run.people = correcting(folder)
    run.take(STEPS[:saved])
    run.trainer.save()
    run.take(STEPS[saved:logged])
    run.stop()
    run = Relabelled(folder)
    tail = run.trainer.resume()
    run.relabelling.resume()
    run.learn(tail)  # nobody corrects anything again
    run.people = {step: act for step, act in people.items() if step > logged}
    run.take(STEPS[logged:])
    resumed = everything(run)
    run.stop()
    assert resumed == uninterrupted(tmp_path / "whole")


def test_a_correction_does_change_what_is_learned(tmp_path):
    assert uninterrupted(tmp_path / "a") != uninterrupted(tmp_path / "b", people=lambda _: {})


def test_the_learner_tells_of_each_correction_and_corrects_its_running_means(tmp_path):
    desk = Desk(tmp_path, max_env_steps=150)
    desk.send(STEPS[:65])
    told = desk.records("episode")
    successes = sum(record["is_success"] for record in told)
    wrong = next(record for record in told if record["is_success"])
    file = RelabelFile(tmp_path)
    file.add("line", wrong["episode"], "failure", "ann")
    desk.send(STEPS[65:95])
    (relabel,) = desk.records("relabel")
    assert (relabel["episode"], relabel["label"], relabel["operator"]) == (wrong["episode"], "failure", "ann")
    assert relabel["in_buffer"]
    after = desk.records("episode")
    first_after = after[len(told)]
    assert first_after["success_20"] == pytest.approx((successes - 1 + first_after["is_success"]) / (len(told) + 1))
    assert json.loads((tmp_path / APPLIED).read_text())["number"] == 0
    desk.stop()

    desk = Desk(tmp_path, resume=True, max_env_steps=150)
    desk.send(STEPS)
    window = desk.learner._episodes._window
    assert [r["is_success"] for r in window if r["episode"] == wrong["episode"]] == [False]
    assert len(desk.records("relabel")) == 1
    desk.stop()
