import pytest

from serl_core.errors import TransportError
from serl_core.testing.conformance import TRANSPORT_CHECKS, check_transport
from serl_core.transport.in_process import InProcessHub


@pytest.mark.parametrize("check", TRANSPORT_CHECKS, ids=lambda check: check.__name__)
def test_the_in_process_transport_conforms(check):
    hub = InProcessHub()
    check(hub.open_learner, hub.actor)


def test_all_checks_run_as_one():
    hub = InProcessHub()
    check_transport(hub.open_learner, hub.actor)


def test_a_second_learner_is_refused():
    hub = InProcessHub()
    hub.open_learner("cafe")
    with pytest.raises(TransportError, match="open here already"):
        hub.open_learner("cafe")
