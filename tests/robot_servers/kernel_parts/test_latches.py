"""Fault and stop side by side."""

import pytest

from robot_servers.kernel_parts.latches import Latches
from robot_servers.limits import Refusal


@pytest.fixture
def events():
    return []


@pytest.fixture
def latches(events):
    return Latches(lambda what, detail: events.append((what, detail)))


def refused(check, *args):
    with pytest.raises(Refusal) as refusal:
        check(*args)
    return refusal.value


def test_the_first_fault_is_told_and_stays(latches, events):
    assert latches.cause is None
    latches.check_free()
    assert latches.fail("reflex")
    assert not latches.fail("outside_box")
    assert (latches.cause, events) == ("reflex", [("fault", "reflex")])


def test_a_fault_over_a_stop_is_what_is_told_and_each_is_cleared_on_its_own(latches):
    latches.stop("operator")
    assert (latches.is_stopped, latches.fault, latches.cause) == (True, None, "operator")
    assert "/v1/resume" in refused(latches.check_free).detail
    latches.fail("reflex")
    assert (latches.is_stopped, latches.fault, latches.cause) == (True, "reflex", "reflex")
    told = refused(latches.check_free)
    assert (told.status, told.given) == (423, "reflex")
    assert "/v1/recover" in told.detail
    latches.clear_stop(latches.present_stop())
    assert (latches.is_stopped, latches.cause) == (False, "reflex")
    latches.clear_fault()
    latches.check_free()
    assert refused(latches.present_stop).kind == "not_stopped"


def test_a_fault_is_cleared_by_who_has_seen_its_cause(latches):
    assert refused(latches.check_recover, "reflex").kind == "no_fault"
    latches.fail("reflex")
    wrong = refused(latches.check_recover, "outside_box")
    assert (wrong.status, wrong.field, wrong.limit) == (422, "cause", "reflex")
    latches.check_recover("reflex")


def test_a_stopped_arm_recovers_by_itself_from_nothing(latches):
    latches.fail("reflex")
    latches.check_own_recovery("reflex")
    assert refused(latches.check_own_recovery, "outside_box").limit == "reflex"
    latches.stop("operator")
    assert refused(latches.check_own_recovery, "reflex").status == 409
