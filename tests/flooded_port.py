"""A program whose ZeroMQ port is flooded by one that is killed, while it is too busy to read."""

import subprocess
import sys

_FLOOD = """
import os, signal, sys, time, zmq
socket = zmq.Context().socket(zmq.DEALER)
socket.set_hwm(0)
socket.connect(sys.argv[1])
for _ in range(2000):
    socket.send(bytes(1000))
time.sleep(0.5)
os.kill(os.getpid(), signal.SIGKILL)
"""
_AFTERWARDS = """
import os, subprocess, sys, time
subprocess.run([sys.executable, "-c", sys.argv[1], address])
time.sleep(4.0)  # ZeroMQ's heartbeat would end this process within 1 s
print("lives", flush=True)
os._exit(0)
"""


def assert_outlives_a_flood(program: str, *arguments: str) -> None:
    """Run `program`, which opens a port that it does not read for 5 s, at `address`; its arguments are argv[2:]."""
    command = [sys.executable, "-c", program + _AFTERWARDS, _FLOOD, *arguments]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (run.stdout, run.returncode) == ("lives\n", 0), run.stderr
