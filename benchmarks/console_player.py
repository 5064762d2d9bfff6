"""A scripted person at the console's page, who plays RAM insertion by pressing keys and letting them go, no other way.

The keys go into a real browser as its own key events. The player sees who is in control on the page, and the arm's
pose and the force on its tool as the robot server tells them to any observer: the page draws both, but not in figures.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from examples.ram_insertion import SOCKET_DEPTH_M, TARGET_POSE
from serl_core.geometry import apply_increment, increment, twist_to_local
from serl_core.robots.messages import RobotState

# Which key turns or moves the tool against an error of this axis: of the tool, which points down; its sign.
KEYS = (
    {1: "KeyW", -1: "KeyS"},
    {1: "KeyD", -1: "KeyA"},
    {1: "KeyF", -1: "KeyR"},
    {1: "ArrowRight", -1: "ArrowLeft"},
    {1: "ArrowDown", -1: "ArrowUp"},
    {1: "KeyE", -1: "KeyQ"},
)
LETTERS = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "ShiftLeft": 16}
SHIFT = 8  # in a key event's modifiers

DELAY_S = 0.12  # from a key to the arm: the player looks so far ahead
FAR = np.array([0.009, 0.009, 0.009, 0.07, 0.07, 0.07])  # m and rad: from there on without shift
NEAR = np.array([0.0008, 0.0008, 0.0008, 0.012, 0.012, 0.012])  # within it, nothing is pressed
TAPPED = 3.0  # times `NEAR`: from there on the key is tapped, not held
ALIGNED_M, ALIGNED_RAD = 0.0012, 0.02
HOVER_M, INSIDE_M, JAMMED_N = 0.004, -0.003, 8.0
TAP_S, SETTLE_S = 0.1, 0.2
PATIENCE_S = 2.0  # in which the policy comes no nearer, then the player takes over
PROGRESS_M = 0.002


class Grip(NamedTuple):
    """Which keys are down."""

    keys: frozenset[str]
    is_fine: bool  # with shift
    is_tap: bool = False  # for a moment only


def grip_for(state: RobotState) -> Grip:
    """Return what a patient person would press: align above the socket, lower gently, press once it is inside."""
    pose, twist = np.array(state.tcp_pose), np.array(state.tcp_twist)
    ahead = twist_to_local(pose[3:], twist) * DELAY_S
    left = increment(apply_increment(pose, ahead), np.array(TARGET_POSE))  # to go, in the tool's axes
    push_n = -twist_to_local(pose[3:], np.array(state.tcp_wrench))[2]
    height_m = left[2] - SOCKET_DEPTH_M  # of the stick's lower end above the socket's rim
    aside_m, turned_rad = np.hypot(*left[:2]), np.linalg.norm(left[3:])
    is_aligned = aside_m < ALIGNED_M and turned_rad < ALIGNED_RAD
    wish = left.copy()
    if height_m < -INSIDE_M and aside_m > 3 * ALIGNED_M:
        wish[:] = 0.0
        wish[2] = -FAR[2]  # beside the socket: up first
    elif height_m < INSIDE_M:
        wish[2] = FAR[2] if turned_rad < 2 * ALIGNED_RAD else 0.5 * FAR[2]
        wish[:2] = 0.0  # the socket leads it
    elif push_n > JAMMED_N:
        wish[2] = -0.5 * FAR[2]
    elif is_aligned:
        wish[2] = 0.5 * FAR[2]
    else:
        wish[2] = max(0.0, height_m - HOVER_M)
    return _grip(wish)


def _grip(wish: np.ndarray) -> Grip:
    is_far = np.abs(wish) >= FAR
    is_fine = not is_far.any()
    is_pressed = np.abs(wish) >= NEAR if is_fine else is_far
    keys = frozenset(KEYS[axis][int(np.sign(wish[axis]))] for axis in np.flatnonzero(is_pressed))
    return Grip(keys, is_fine, is_tap=is_fine and bool((np.abs(wish) < TAPPED * NEAR).all()))


class Browser(Protocol):
    """The two methods that are used of a selenium driver for Chromium."""

    def execute_script(self, script: str, *args: Any) -> Any:
        """Run a script in the page."""

    def execute_cdp_cmd(self, command: str, arguments: dict[str, Any]) -> Any:
        """Have the browser do something."""


class Hands:
    """Ten fingers on the browser's keyboard."""

    def __init__(self, browser: Browser) -> None:
        self.presses = 0
        self._browser = browser
        self._held: frozenset[str] = frozenset()
        self._is_fine = False

    def hold(self, keys: frozenset[str], *, is_fine: bool = False) -> None:
        """Hold these keys down, and no other."""
        if is_fine != self._is_fine:
            self._is_fine = is_fine
            self._send("rawKeyDown" if is_fine else "keyUp", "ShiftLeft")
        for key in self._held - keys:
            self._send("keyUp", key)
        for key in keys - self._held:
            self.presses += 1
            self._send("rawKeyDown", key)
        self._held = keys

    def release(self) -> None:
        """Let go of everything."""
        self.hold(frozenset())

    def press(self, key: str) -> None:
        """Press a key and let it go."""
        self.presses += 1
        self._send("rawKeyDown", key)
        self._send("keyUp", key)

    def _send(self, kind: str, code: str) -> None:
        letter = code.removeprefix("Key")
        event = {
            "type": kind,
            "code": code,
            "key": code.removesuffix("Left") if code == "ShiftLeft" else letter if len(letter) > 1 else letter.lower(),
            "windowsVirtualKeyCode": LETTERS.get(code) or (13 if code == "Enter" else ord(letter[0])),
            "modifiers": SHIFT if self._is_fine else 0,
        }
        if code == "Enter" and kind == "rawKeyDown":
            event |= {"type": "keyDown", "text": "\r"}  # presses the button that has the focus
        self._browser.execute_cdp_cmd("Input.dispatchKeyEvent", event)


class Player:
    """Demonstrates, or corrects: takes over when the policy comes no nearer for a while, until the stick is in.

    Args:
        look: the arm's present state.
        is_demonstrating: in control all the time.
    """

    def __init__(
        self,
        browser: Browser,
        look: Callable[[], RobotState],
        *,
        is_demonstrating: bool,
        patience_s: float = PATIENCE_S,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.hands = Hands(browser)
        self.takeovers = self.resumed = self.recovered = 0
        self._browser = browser
        self._look = look
        self._is_demonstrating = is_demonstrating
        self._patience_s = patience_s
        self._now, self._sleep = now, sleep
        self._control = ""
        self._since_s = now()  # since when that is so
        self._episode = ""
        self._is_helping = False
        self._nearest_m = np.inf
        self._nearer_s = now()  # when it last came nearer

    def play(self, is_over: Callable[[], bool]) -> None:
        """Play until it is over; then everything is let go."""
        try:
            while not is_over():
                self._turn()
        finally:
            self.hands.release()

    def _turn(self) -> None:
        control, episode = self._read_page()
        if control != self._control:
            self._control, self._since_s = control, self._now()
        if episode != self._episode or control not in ("policy", "human"):
            self._begin_episode(episode)
        if control in ("policy", "human"):
            self._steer()
            return
        self.hands.release()
        if control == "paused":
            self.resumed += 1
            self.hands.press("KeyP")
            self._sleep(1.0)
        elif control in ("stopped", "fault"):
            self.recovered += 1
            self._browser.execute_script("document.getElementById('way-out')?.focus()")
            self.hands.press("Enter")
            self._sleep(2.0)
        elif control == "waiting" and self._is_demonstrating and self._now() - self._since_s > 3.0:
            self.hands.press("KeyT")  # somebody is here: takes control, and lets it go
            self._sleep(0.2)
            self.hands.press("KeyT")
            self._since_s = self._now()
        self._sleep(0.05)

    def _read_page(self) -> tuple[str, str]:
        control, episode = self._browser.execute_script(
            "return ['control', 'fact-episode'].map((id) => document.getElementById(id))"
            ".map((e) => e.dataset.control ?? e.textContent)"
        )
        return str(control), str(episode).split(",")[0]

    def _begin_episode(self, episode: str) -> None:
        self._episode = episode
        self._is_helping = False
        self._nearest_m, self._nearer_s = np.inf, self._now()

    def _steer(self) -> None:
        state = self._look()
        if not self._is_demonstrating and not self._is_helping:
            self.hands.release()
            if not self._is_stuck(state):
                self._sleep(0.05)
                return
            self._is_helping = True
            self.takeovers += 1
            self._since_s = self._now()
        if self._control == "policy" and self._now() - self._since_s > 1.0:
            self.hands.release()  # the page believes nobody who was lost until they have let go
            self._since_s = self._now()
            self._sleep(0.1)
        grip = grip_for(state)
        self.hands.hold(grip.keys, is_fine=grip.is_fine)
        if grip.is_tap:
            self._sleep(TAP_S)
            self.hands.hold(frozenset(), is_fine=grip.is_fine)
            self._sleep(SETTLE_S)
        else:
            self._sleep(0.02)

    def _is_stuck(self, state: RobotState) -> bool:
        apart_m = float(np.linalg.norm(np.array(state.tcp_pose[:3]) - np.array(TARGET_POSE[:3])))
        if apart_m < self._nearest_m - PROGRESS_M:
            self._nearest_m, self._nearer_s = apart_m, self._now()
        return self._now() - self._nearer_s > self._patience_s
