"""Checks of a configuration's numbers, which name the value, what is allowed and the unit."""

import math

from serl_core.errors import ConfigError


def between(name: str, value: float, low: float, high: float, unit: str) -> None:
    """Refuse a value that is not from `low` to `high`.

    Raises:
        ConfigError: it is outside, or not a number.
    """
    if not low <= value <= high:  # also refuses NaN
        raise ConfigError(f"{name}: must be {low} to {high} {unit}, got {value}")


def above_zero(name: str, value: float, unit: str) -> None:
    """Refuse a value that is not above 0 and finite.

    Raises:
        ConfigError: it is not, or not a number.
    """
    if not 0.0 < value < math.inf:
        raise ConfigError(f"{name}: must be above 0 {unit} and finite, got {value}")
