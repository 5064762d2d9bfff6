"""FR3 through libfranka, by the library franky."""

from robot_servers.franky.backend import FrankyBackend

__all__ = ["FrankyBackend"]
