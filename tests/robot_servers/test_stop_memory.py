"""That the next server finds it, row B6 of the fault table shows."""

from robot_servers.stop_memory import StopMemory


def test_a_stop_that_comes_between_the_look_and_the_note_is_not_lost():
    memory = StopMemory()
    memory.note(lambda: True)
    answers = iter([False, True, True])  # cleared, and stopped again before that is noted
    memory.note(lambda: next(answers))
    assert memory.is_stopped
    memory.note(lambda: False)
    assert not memory.is_stopped
