"""An arm of franky-sim, and its service."""

import pytest

from tests.robot_servers.franky.simulated import Served, SimulatedArms


@pytest.fixture(scope="module")
def simulator():
    simulated = SimulatedArms()
    yield simulated
    simulated.kill()


@pytest.fixture
def arms(simulator):
    """The arm where it begins, untouched."""
    simulator.ask("home")
    return simulator


@pytest.fixture
def served(arms):
    serving = Served(arms.address)
    yield serving
    serving.service.close()
