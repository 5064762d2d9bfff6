"""`serl franky-sim`: an FR3 that speaks libfranka's protocol on this machine, to try the real driver without an arm.

`serl robot-server --backend franky --robot-ip ADDRESS --ignore-realtime` then controls it as it would a real one. It is
franky-sim's arm in empty space, in MuJoCo, at about 0.85 of real time.
"""

import logging
import signal
import threading
from dataclasses import dataclass
from pathlib import Path

from franky_sim.mujoco_simulator import MujocoSimulator
from franky_sim.simulation_server import SimulationServer

from serl_core.data.episode_file import write_atomically
from serl_core.errors import ConfigError, SerlError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FrankySimArgs:
    """Serve one simulated FR3."""

    address: str | None = None
    """Of 127.0.0.0/8; a free one if not given."""
    ready_file: Path | None = None
    """The address is written there once the arm can be reached."""

    def __post_init__(self) -> None:
        if self.address is not None and not self.address.startswith("127."):
            raise ConfigError(f"--address: must begin with 127., this machine alone, got {self.address!r}")


def run_franky_sim(args: FrankySimArgs) -> None:
    """Simulate until SIGTERM or SIGINT.

    Raises:
        SerlError: the address is taken.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with MujocoSimulator() as simulator:
        arm = simulator.add_robot()
        server = SimulationServer(
            simulator, **({} if args.address is None else {"hostname_candidates": [args.address]})
        )
        try:
            server.init()
        except (OSError, RuntimeError) as error:
            raise SerlError(
                f"no simulated arm at {args.address or '127.0.0.0/8'}: {error}; end what is there, or choose another "
                "--address"
            ) from None
        try:
            address = str(arm.hostname)
            logger.info("a simulated FR3 at %s", address)
            if args.ready_file is not None:
                write_atomically(args.ready_file, (address + "\n").encode())
            while not stop.is_set():
                server.run_once()
        finally:
            server.cleanup()
