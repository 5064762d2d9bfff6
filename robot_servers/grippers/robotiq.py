"""A Robotiq 2F gripper over Modbus TCP: `robot_servers.grippers.interface.Gripper`.

One thread owns the connection. It writes the newest command and reads the status 20 times a second, so no
caller ever waits for the network. After a fault nothing is sent until a person asks to recover.
"""

import logging
import threading
import time

from pymodbus.client import ModbusTcpClient
from pymodbus.exceptions import ModbusException

from robot_servers.grippers.robotiq_registers import (
    FAULTS,
    FIRST_MAJOR_FAULT,
    INPUT_ADDRESS,
    OUTPUT_ADDRESS,
    REGISTERS,
    TWO_F_85,
    UNIT_ID,
    RobotiqModel,
    Status,
    decode_status,
    encode_activation,
    encode_move,
    opening,
)
from serl_core.errors import ConfigError, RobotError

logger = logging.getLogger(__name__)

PORT = 502
RETRIES = 2
LOST = "gripper_lost"
FAULTY = "gripper_fault"
FAILURES = (ModbusException, OSError, RobotError)  # of the library, of the network, of the gripper


class RobotiqGripper:
    """One 2F gripper.

    Args:
        address: HOST or HOST:PORT of its Modbus TCP server or gateway.
        model: what it can do.
        unit_id: of the gripper behind the gateway.
        timeout_s: of one answer; after three silent ones in a row the gripper is lost.
        activation_s: how long an activation may take.
        period_s: between two readings.
    """

    def __init__(
        self,
        address: str,
        *,
        model: RobotiqModel = TWO_F_85,
        unit_id: int = UNIT_ID,
        timeout_s: float = 0.3,
        activation_s: float = 10.0,
        period_s: float = 0.05,
    ) -> None:
        self.model = model
        self._address = address
        self._unit_id = unit_id
        self._timeout_s = timeout_s
        self._activation_s = activation_s
        self._period_s = period_s
        self._client: ModbusTcpClient | None = None
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._is_stopping = threading.Event()
        self._lock = threading.Lock()  # guards the next four, for microseconds
        self._command: list[int] | None = None  # the newest, not sent yet
        self._position = 0.0
        self._fault: str | None = None
        self._must_recover = False

    def start(self) -> None:
        """Connect, and activate the gripper unless it is: an activation opens and closes it once.

        Raises:
            ConfigError: the address is none.
            RobotError: it does not answer, or cannot be activated, with the remedy.
        """
        self.stop()
        host, port = parse_address(self._address)
        self._is_stopping.clear()
        self._command, self._fault, self._must_recover = None, None, False
        self._client = ModbusTcpClient(host, port=port, timeout=self._timeout_s, retries=RETRIES)
        try:
            self._connect(self._client)
        except FAILURES as error:
            self._client.close()
            raise RobotError(
                f"gripper at {self._address}: {error}; check its power and cable, that {host} port {port} is its "
                f"Modbus TCP server, and that its unit id is {self._unit_id}"
            ) from None
        self._thread = threading.Thread(target=self._run, args=(self._client,), name="robotiq", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Disconnect; the fingers stay as they are. Safe to call twice."""
        self._is_stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._client is not None:
            self._client.close()
            self._client = None

    def move(self, position: float, speed_m_s: float, force_n: float) -> None:
        """Begin to move to `position`, 0 closed .. 1 open, and return at once; a newer command takes the place.

        Speed and force become bytes by the data sheet of the model (a 2F-85: 20 to 150 mm/s, 20 to 235 N); what
        is beyond is the nearest that it can do. While there is a fault nothing happens.
        """
        command = encode_move(self.model, position, speed_m_s, force_n)
        with self._lock:
            if self._fault is None:
                self._command = command
        self._wake.set()

    def position(self) -> float:
        """Return the newest reading, 0 closed .. 1 open, at once."""
        with self._lock:
            return self._position

    def width_m(self) -> float:
        """Return the newest distance between the fingers, at once."""
        return self.model.stroke_m * self.position()

    def fault(self) -> str | None:
        """Return ``gripper_lost`` (no answer, or its power was cut), ``gripper_fault`` (it says so) or None."""
        with self._lock:
            return self._fault

    def recover(self) -> None:
        """Clear a fault and connect again, on request only; returns at once. The fault stays until that is done.

        Commands are forgotten until then. A gripper that had no power is activated, which moves its fingers.
        """
        with self._lock:
            self._must_recover = self._fault is not None
        self._wake.set()

    # ---- on the thread, except for `start`

    def _run(self, client: ModbusTcpClient) -> None:
        while True:
            self._wake.wait(self._period_s)
            self._wake.clear()
            if self._is_stopping.is_set():
                return
            try:
                self._exchange(client)
            except FAILURES as error:
                client.close()
                self._latch(LOST, str(error))
            except Exception as error:  # without its thread the gripper would look sound, and obey nobody
                logger.exception("gripper at %s: its driver failed", self._address)
                client.close()
                self._latch(LOST, str(error))

    def _exchange(self, client: ModbusTcpClient) -> None:
        """Send what is new and read the status; nothing while there is a fault."""
        with self._lock:
            must_recover = self._must_recover
            if self._fault is not None and not must_recover:
                return
            self._must_recover = False
        if must_recover:
            client.close()
            self._connect(client)
            if self._is_stopping.is_set():
                return
            with self._lock:
                self._fault, self._must_recover = None, False
        with self._lock:
            command, self._command = self._command, None
        if command is not None:
            self._write(client, command)
        status = self._read(client)
        if status.fault >= FIRST_MAJOR_FAULT:
            self._latch(FAULTY, FAULTS[status.fault])
        elif not status.is_activated:
            self._latch(LOST, "it is not activated any more: its power was cut, or another controller reset it")

    def _connect(self, client: ModbusTcpClient) -> None:
        if not client.connect():
            raise ConnectionError("nobody answers there")
        status = self._read(client)
        if not status.is_activated or status.fault >= FIRST_MAJOR_FAULT:
            self._activate(client)

    def _activate(self, client: ModbusTcpClient) -> None:
        """Activate it, and wait until the fingers have opened and closed."""
        logger.info("gripper at %s: activation, its fingers open and close", self._address)
        self._write(client, encode_activation(False))
        self._write(client, encode_activation(True))
        give_up_s = time.monotonic() + self._activation_s
        while not (status := self._read(client)).is_activated:
            if status.fault >= FIRST_MAJOR_FAULT:
                raise RobotError(f"it cannot be activated: {FAULTS[status.fault]}")
            if time.monotonic() > give_up_s:
                raise RobotError(f"it is not activated after {self._activation_s:g} s")
            if self._is_stopping.wait(self._period_s):
                return

    def _read(self, client: ModbusTcpClient) -> Status:
        response = client.read_holding_registers(INPUT_ADDRESS, count=REGISTERS, device_id=self._unit_id)
        if response.isError() or len(response.registers) != REGISTERS:
            raise RobotError(f"unit {self._unit_id} has no status at register {INPUT_ADDRESS:#06x}: {response}")
        status = decode_status(response.registers)
        with self._lock:
            self._position = opening(status.position)
        return status

    def _write(self, client: ModbusTcpClient, registers: list[int]) -> None:
        response = client.write_registers(OUTPUT_ADDRESS, registers, device_id=self._unit_id)
        if response.isError():
            raise RobotError(f"unit {self._unit_id} takes no command at register {OUTPUT_ADDRESS:#06x}: {response}")

    def _latch(self, fault: str, why: str) -> None:
        logger.error("gripper at %s: %s: %s; mend it, then recover", self._address, fault, why)
        with self._lock:
            self._fault, self._command = fault, None


def parse_address(address: str) -> tuple[str, int]:
    """Return the host and port in HOST or HOST:PORT.

    Raises:
        ConfigError: the address is none.
    """
    host, colon, number = address.partition(":")
    if not host or (colon and not (number.isascii() and number.isdigit() and 0 < int(number) < 2**16)):
        raise ConfigError(f"gripper address {address!r}: give HOST or HOST:PORT, such as 192.168.1.11:502")
    return host, int(number) if colon else PORT
