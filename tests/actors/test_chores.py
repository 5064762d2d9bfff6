import threading

from actors.chores import WAITING, Chores


def test_chores_are_done_in_order_and_all_are_done_at_the_end():
    done = []
    with Chores() as chores:
        for number in range(10):
            assert chores.do(lambda number=number: done.append(number))
    assert done == list(range(10))


def test_a_chore_that_fails_is_told_and_keeps_no_other_from_being_done(caplog):
    done = []
    with Chores() as chores:
        chores.do(lambda: 1 / 0)
        chores.do(lambda: done.append(True))
    assert done == [True]
    assert "ZeroDivisionError" in caplog.text


def test_whoever_gives_too_much_is_told_and_never_waits():
    may_end, has_begun = threading.Event(), threading.Event()

    def wait():
        has_begun.set()
        may_end.wait(20.0)

    with Chores() as chores:
        chores.do(wait)
        assert has_begun.wait(20.0)
        assert [chores.do(lambda: None) for _ in range(WAITING + 1)] == [True] * WAITING + [False]
        may_end.set()
