"""HIL-SERL's routes, for clients that know neither lease nor token. Imported only where they are asked for."""

from robot_servers.serl_routes.arm import SerlArm
from robot_servers.serl_routes.routes import SERL_PATHS, add_serl_routes

__all__ = ["SERL_PATHS", "SerlArm", "add_serl_routes"]
