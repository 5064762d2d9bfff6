import pytest

from serl_core.testing.conformance import TRANSPORT_CHECKS
from serl_core.transport.zmq_transport import ZmqActorLink, ZmqLearnerLink


class Network:
    """Learners and actors that meet at one port of the loopback interface."""

    def __init__(self):
        with ZmqLearnerLink("any") as link:
            self.address = link.address

    def open_learner(self, digest):
        return ZmqLearnerLink(digest, port=int(self.address.rsplit(":", 1)[1])).open()

    def actor(self):
        return ZmqActorLink(self.address)


@pytest.fixture
def network():
    return Network()


@pytest.mark.parametrize("check", TRANSPORT_CHECKS, ids=lambda check: check.__name__)
def test_the_zmq_transport_conforms(check, network):
    check(network.open_learner, network.actor)
