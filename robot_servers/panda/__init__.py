"""A Panda (FER) through panda-python: `PandaBackend`, and Franka's hand at it."""

from robot_servers.panda.backend import PandaBackend
from robot_servers.panda.hand import PandaHand

__all__ = ["PandaBackend", "PandaHand"]
