import threading

import pytest

from serl_core.testing.episodes import assert_same_transitions, make_episode
from serl_core.transport.inbox import Inbox, mismatch

STEPS = make_episode(steps=10)


def put(inbox, steps, size=1):
    for step in steps:
        inbox.begin(step.provenance.session, 0)
        inbox.put(step, size)


def test_only_the_next_of_a_session_is_kept():
    inbox = Inbox()
    put(inbox, [STEPS[0], STEPS[2], STEPS[1], STEPS[1], STEPS[2]])
    assert_same_transitions(inbox.take(0.0), STEPS[:3])
    assert inbox.counters() == {"introduced": 0, "received": 3, "duplicate": 1, "rejected": 0, "refused": 0}


def test_a_full_inbox_takes_nothing_more_until_it_is_emptied():
    inbox = Inbox(max_bytes=40)
    put(inbox, STEPS, size=10)
    assert inbox.status("session").received_sequence == 3
    assert_same_transitions(inbox.take(0.0), STEPS[:4])
    put(inbox, STEPS[4:6], size=10)
    assert_same_transitions(inbox.take(0.0), STEPS[4:6])


def test_restoring_drops_what_the_disk_holds_already():
    """An actor may have sent before the learner had read its log."""
    inbox = Inbox()
    put(inbox, STEPS[:6])
    inbox.restore({"session": 3})
    assert_same_transitions(inbox.take(0.0), STEPS[4:6])
    assert inbox.status("session").acked_sequence == 3


def test_a_base_beyond_what_is_known_is_believed():
    inbox = Inbox()
    assert inbox.begin("session", 7) == 7
    assert inbox.begin("session", 3) == 7


def test_what_will_never_come_is_passed_over_once_all_before_it_is_there():
    inbox = Inbox()
    assert inbox.begin("session", 0, after=4, first=7) == 0  # 0 to 4 are still to come
    put(inbox, STEPS[:5])
    assert inbox.begin("session", 0, after=4, first=7) == 7


def test_a_refusal_stands_in_the_status_until_it_is_passed_over():
    inbox = Inbox()
    put(inbox, STEPS[:2])
    inbox.refuse("session", 2, "no such action")
    inbox.refuse("session", 2, "no such action")  # it was sent again
    inbox.refuse("session", 5, "not the next one")
    assert inbox.status("session").rejection == "no such action"
    assert inbox.counters()["refused"] == 1
    inbox.begin("session", 0, after=1, first=3)
    assert inbox.status("session").rejection == ""


def test_each_start_of_a_learner_is_told_apart():
    assert Inbox().status("session").learner != Inbox().status("session").learner


def test_an_acknowledgement_never_goes_back():
    inbox = Inbox()
    inbox.acknowledge("session", 5)
    inbox.acknowledge("session", 2)
    assert inbox.status("session").acked_sequence == 5


def test_what_waits_or_is_being_taken_in_counts_as_env_steps_once():
    """An actor measures its lead by them: what had arrived but was not reported yet was in no count."""
    inbox = Inbox()
    put(inbox, STEPS[:2])
    assert inbox.status("session").env_steps == 2
    inbox.take(0.0)
    put(inbox, STEPS[2:5])
    assert inbox.status("session").env_steps == 5
    inbox.report(2, 0, False)
    assert inbox.status("session").env_steps == 5
    inbox.take(0.0)
    inbox.report(5, 0, False)
    assert inbox.status("session").env_steps == 5


def test_take_wakes_as_soon_as_something_comes():
    inbox = Inbox()
    taken = []
    taker = threading.Thread(target=lambda: taken.extend(inbox.take(100.0)))
    taker.start()
    put(inbox, STEPS[:1])
    taker.join(20.0)
    assert_same_transitions(taken, STEPS[:1])


@pytest.mark.parametrize(
    ("actor", "learner", "words"),
    [
        ("cafe+small-1", "cafe+resnet10-2", ["encoder small-1", "from resnet10-2", "EncoderConfig"]),
        ("cafe+small-1", "cafe+small-1-pixels", ["encoder small-1,", "small-1-pixels", "EncoderConfig"]),
        ("cafe", "cafe+small-1", ["encoder none", "from small-1"]),
        ("beef+small-1", "cafe+small-1", ["task", "beef+small-1", "cafe+small-1", "same task and configuration"]),
        ("beef", "cafe", ["task", "beef", "cafe"]),
    ],
)
def test_a_refused_actor_is_told_what_differs(actor, learner, words):
    """The encoders are told only where the tasks are the same: else they are not what is wrong."""
    message = mismatch(actor, learner)
    assert [word for word in words if word not in message] == []
    assert ("EncoderConfig" in message) == (actor.partition("+")[0] == learner.partition("+")[0])


def test_what_actors_wait_for_is_told_apart_from_the_progress_of_all():
    inbox = Inbox()
    for session in ("first", "second"):
        inbox.begin(session, 0)
    inbox.report(5, 0, is_finished=False)
    assert inbox.awaited() == set()
    inbox.acknowledge("second", 3)
    assert inbox.awaited() == {"second"}
    assert inbox.awaited() == set()
    inbox.refuse("first", 0, "not of this task")
    assert inbox.awaited() == {"first"}
    inbox.publish(1)
    assert inbox.awaited() == {"first", "second"}
    inbox.report(5, 5, is_finished=True)
    assert inbox.awaited() == {"first", "second"}
