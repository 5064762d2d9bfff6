import subprocess
import sys
import threading
import time

from actors.chores import WAITING, Chores
from serl_core.errors import DataError
from serl_core.threads import STATUS

DEFECT = """
import time
from actors.chores import Chores
from serl_core.threads import dying_together
with dying_together(), Chores() as chores:
    print(time.monotonic(), flush=True)
    chores.do(lambda: 1 / 0)
    time.sleep(60)
"""


def test_chores_are_done_in_order_and_all_are_done_at_the_end():
    done = []
    with Chores() as chores:
        for number in range(10):
            assert chores.do(lambda number=number: done.append(number))
    assert done == list(range(10))


def test_a_chore_that_fails_of_a_full_disk_is_told_and_keeps_no_other_from_being_done(caplog):
    done = []

    def fail():
        raise DataError("make room on the disk")

    with Chores() as chores:
        chores.do(fail)
        chores.do(lambda: done.append(True))
    assert done == [True]
    assert "make room on the disk" in caplog.text


def test_a_chore_with_a_defect_ends_the_program_within_a_second():
    """It was logged, and the program went on, as if the operator had been heard."""
    with subprocess.Popen([sys.executable, "-c", DEFECT], stdout=-1, stderr=-1, text=True) as program:
        said, told = program.communicate(timeout=60)
        took_s = time.monotonic() - float(said)
    assert program.returncode == STATUS
    assert "the thread operator-chores has died" in told
    assert "ZeroDivisionError" in told
    assert took_s < 1.0


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
