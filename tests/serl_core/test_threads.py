import subprocess
import sys

from serl_core.threads import STATUS

PROGRAM = """
import threading, time
from serl_core.threads import dying_together
def work():
    {work}
with dying_together():
    threading.Thread(target=work, name="worker").start()
    time.sleep({rest_s})
print("the end")
"""


def ended(work, rest_s):
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(work=work, rest_s=rest_s)], capture_output=True, text=True, check=False
    )


def test_a_thread_that_dies_of_a_defect_takes_its_process_with_it():
    done = ended("raise KeyError('defect')", 60)
    assert done.returncode == STATUS
    assert "the thread worker has died" in done.stderr
    assert "KeyError: 'defect'" in done.stderr
    assert not done.stdout


def test_a_thread_that_ends_by_itself_does_not():
    assert ended("raise SystemExit", 0.2).stdout == "the end\n"
