"""What stands between a command and the driver."""

import threading

import pytest

from robot_servers.kernel import SafetyKernel
from robot_servers.limits import Refusal, SafetyLimits
from robot_servers.service_parts.gate import Gate
from robot_servers.testing import JOINT_LIMITS, PointMassBackend
from serl_core.clock import ManualClock


class Rig:
    def __init__(self, *, is_lockstep):
        limits = SafetyLimits()
        self.clock = ManualClock()
        self.kernel = SafetyKernel(limits, JOINT_LIMITS)
        self.gate = Gate(PointMassBackend(is_lockstep=is_lockstep), self.kernel, limits, self.clock)
        self.gate.ticked(self.clock())


def test_a_silence_makes_the_state_old_and_a_long_one_is_a_fault():
    rig = Rig(is_lockstep=False)
    rig.gate.require_fresh()
    rig.clock.advance(0.11)
    with pytest.raises(Refusal, match="gone quiet") as refused:
        rig.gate.require_fresh()
    assert (refused.value.status, rig.kernel.fault) == (503, None)
    rig.gate.ticked(rig.clock())
    rig.gate.require_fresh()
    rig.clock.advance(0.2)
    assert rig.gate.is_stale()
    rig.clock.advance(0.79)
    assert rig.gate.is_stale()
    assert rig.kernel.fault is None
    rig.clock.advance(0.02)
    assert rig.gate.is_stale()
    assert rig.kernel.fault == "backend_lost"


def test_who_looks_first_after_a_sleep_finds_old_readings_and_no_fault():
    rig = Rig(is_lockstep=False)
    rig.clock.advance(60.0)
    assert rig.gate.is_stale()
    rig.clock.advance(0.09)
    assert rig.gate.is_stale()
    assert rig.kernel.fault is None
    rig.gate.ticked(rig.clock())
    assert not rig.gate.is_stale()
    rig.clock.advance(60.0)
    assert rig.gate.is_stale()
    rig.clock.advance(0.11)
    assert rig.gate.is_stale()
    assert rig.kernel.fault == "backend_lost"


def test_a_simulation_in_lockstep_is_never_silent():
    rig = Rig(is_lockstep=True)
    rig.clock.advance(100.0)
    assert not rig.gate.is_stale()
    assert rig.kernel.fault is None


def test_while_one_command_is_at_the_driver_another_is_refused():
    rig = Rig(is_lockstep=False)
    refused = []

    def second():
        try:
            with rig.gate.turn():
                pass
        except Refusal as refusal:
            refused.append(refusal.kind)

    with rig.gate.turn():
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert refused == ["busy"]
    second()
    assert refused == ["busy"]
