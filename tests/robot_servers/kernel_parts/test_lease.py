"""One controller at a time, fenced by an epoch."""

import pytest

from robot_servers.kernel_parts.lease import LeaseBook
from robot_servers.limits import Refusal


def book(**changes: float) -> LeaseBook:
    return LeaseBook(2.0, changes.get("commands_per_s", 100.0), first_epoch=7)


def test_epochs_only_rise():
    leases = book()
    first = leases.acquire("a", 0.0)
    leases.release(first.epoch)
    second = leases.acquire("b", 0.0)
    assert 7 < first.epoch < second.epoch


def test_a_second_client_is_told_who_holds_the_lease():
    leases = book()
    leases.acquire("alice", 0.0)
    with pytest.raises(Refusal, match=r"'alice', last heard of 1\.5 s ago") as refused:
        leases.acquire("bob", 1.5)
    assert refused.value.status == 409


def test_after_a_lost_lease_the_next_client_must_know_the_newest_pose_epoch():
    leases = book()
    leases.acquire("a", 0.0)
    leases.expire(2.1)
    for known in (None, 0, 2):
        with pytest.raises(Refusal, match="read the state") as refused:
            leases.acquire("b", 2.2, pose_epoch=known)
        assert (refused.value.status, refused.value.field, refused.value.limit) == (409, "pose_epoch", 1)
    epoch = leases.acquire("b", 2.3, pose_epoch=1).epoch
    leases.release(epoch)
    leases.acquire("c", 2.4)  # one that was given back leaves nobody behind


def test_a_client_without_the_lease_is_told_who_has_it_and_since_when():
    leases = book()
    lease = leases.acquire("alice", 0.0)
    leases.renew(lease.epoch, 10.0)
    leases.expire(11.5)
    words = r"commanded by 'alice', last heard of 1\.5 s ago, who has it for 11\.5 s"
    with pytest.raises(Refusal, match=words) as refused:
        leases.require(3)
    assert (refused.value.status, refused.value.limit) == (409, "alice")


def test_a_command_that_was_held_up_on_its_way_is_refused():
    """The client's clock is 1000 s ahead, its commands take 5 ms: one that takes 300 ms is late by 295 ms."""
    leases = book()
    leases.acquire("a", 0.0)
    leases.check_command(1, 0.0, 1000.0, 0.005)
    leases.count_command(1, 0.0, 0.005, 1000.0)
    leases.check_command(2, 0.1, 1000.1, 0.3)
    with pytest.raises(Refusal, match=r"0\.295 s longer") as refused:
        leases.check_command(2, 0.1, 1000.1, 0.4)
    assert (refused.value.status, refused.value.field) == (409, "sent_s")


@pytest.mark.parametrize("epoch", [0, -1, 7, 9])
def test_any_other_epoch_is_refused(epoch):
    leases = book()
    assert leases.acquire("a", 0.0).epoch == 8
    for call in (leases.require, leases.release, lambda e: leases.renew(e, 0.0)):
        with pytest.raises(Refusal) as refused:
            call(epoch)
        assert refused.value.status == 409
    assert leases.epoch == 8


def test_a_silent_holder_loses_the_lease_after_its_time_out():
    leases = book()
    lease = leases.acquire("a", 0.0)
    leases.renew(lease.epoch, 1.0)
    assert leases.expire(3.0) is None
    assert leases.expire(3.01) == lease
    assert leases.epoch == 0
    with pytest.raises(Refusal):
        leases.renew(lease.epoch, 3.02)


def test_an_accepted_command_is_a_sign_of_life_and_a_check_is_not():
    leases = book()
    lease = leases.acquire("a", 0.0)
    leases.check_command(1, 1.9)
    assert leases.expire(2.1) == lease
    lease = leases.acquire("a", 3.0, pose_epoch=1)
    leases.count_command(1, 4.9, 4.9)
    assert leases.expire(6.8) is None


def test_a_sequence_must_rise_within_a_lease_and_starts_anew_with_the_next():
    leases = book()
    lease = leases.acquire("a", 0.0)
    leases.count_command(5, 0.0, 0.0)
    for sequence in (5, 4, -1):
        with pytest.raises(Refusal) as refused:
            leases.check_command(sequence, 0.0)
        assert (refused.value.status, refused.value.field) == (409, "sequence")
    leases.check_command(6, 0.0)
    leases.release(lease.epoch)
    leases.acquire("a", 0.0)
    leases.check_command(0, 0.0)


def test_more_commands_than_the_rate_are_refused():
    leases = book()
    leases.acquire("a", 0.0)
    accepted, statuses = 0, set()
    for tick in range(1000):
        try:
            leases.check_command(None, tick * 0.001)
        except Refusal as refusal:
            statuses.add(refusal.status)
        else:
            leases.count_command(None, tick * 0.001, 0.0)
            accepted += 1
    assert statuses == {429}
    assert 100 <= accepted <= 120
