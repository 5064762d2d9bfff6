import pytest

from robot_servers.sim.gl import open_context
from serl_core.errors import RobotError


@pytest.fixture(scope="session")
def gl():
    """Skips what draws where nothing can be drawn."""
    try:
        open_context().free()
    except RobotError as error:
        pytest.skip(str(error))
