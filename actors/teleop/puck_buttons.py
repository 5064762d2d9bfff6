"""A SpaceMouse's buttons: any number of them, by name, held or pressed since the last look."""

import math

from actors.teleop.puck_reading import PuckReading
from serl_core.errors import ConfigError

FIRST, LAST = "first", "last"  # of the device's buttons, whatever their names
PRESS_S = 0.5  # an older press, as one during a reset, counts for nothing


class NewPress:
    """Takes each press once, however short: it may be over before the next control step looks."""

    def __init__(self) -> None:
        self._seen_s = -math.inf

    def take(self, reading: PuckReading, names: tuple[str, ...], now_s: float) -> bool:
        """Return whether one of the buttons was pressed since the last call, and not long ago."""
        places = find_buttons(reading.buttons, names)
        pressed_s = max((reading.pressed_s[place] for place in places), default=-math.inf)
        is_new = pressed_s > self._seen_s and now_s - pressed_s <= PRESS_S
        self._seen_s = max(self._seen_s, pressed_s)
        return is_new


def is_down(reading: PuckReading, names: tuple[str, ...]) -> bool:
    """Return whether one of the buttons is held."""
    return any(reading.is_down[place] for place in find_buttons(reading.buttons, names))


def find_buttons(buttons: tuple[str, ...], wanted: tuple[str, ...]) -> tuple[int, ...]:
    """Return the places of the wanted ones among a device's buttons; one that it lacks is left out."""
    ends = {FIRST: 0, LAST: len(buttons) - 1} if buttons else {}
    places = {name: place for place, name in enumerate(buttons)} | ends
    return tuple(places[name] for name in wanted if name in places)


def check_buttons(buttons: tuple[str, ...], wanted: tuple[str, ...]) -> None:
    """Refuse a button's name that the device does not have; `FIRST` and `LAST` of none are no error."""
    for name in wanted:
        if name not in (*buttons, FIRST, LAST):
            raise ConfigError(
                f"SpaceMouse: it has no button {name!r}; its buttons are {', '.join(buttons) or 'none'}, and "
                f"{FIRST!r} and {LAST!r} name the ends of that list"
            )
