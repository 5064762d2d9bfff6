"""Refuses a reward classifier that gives rewards for failures: a policy finds each of them, and learns it."""

import logging
from pathlib import Path
from typing import Any

import msgspec

from serl_core.errors import ConfigError
from serl_core.statistics import Rate

logger = logging.getLogger(__name__)

MEASURE = "failure_called_success"  # of a classifier's metrics: how many failures it would have ended as successes
MOST = 0.01
FLAG = "--allow-poor-classifier"


def check_quality(path: Path, metrics: dict[str, Any], *, allow_poor: bool = False) -> None:
    """Let a classifier pass that ended at most 1 % of the held-back episodes without a success as successes.

    A small number of such episodes proves little, so the upper end of the 95 % interval is told with the rate; it
    does not decide.

    Args:
        metrics: of the classifier's file, as `serl classifier train` measured them.
        allow_poor: warn only.

    Raises:
        ConfigError: more than that, or nobody has measured it.
    """
    fault = fault_of(metrics)
    if fault is None:
        logger.info("classifier %s: %s", path, _told(_measured(metrics)))
    elif allow_poor:
        logger.warning("classifier %s: %s; used all the same (%s)", path, fault, FLAG)
    else:
        raise ConfigError(
            f"classifier {path}: {fault}; record more failures (hovering, beside it, half way) and train it anew with "
            f"`serl classifier train`, or use it all the same with {FLAG}"
        )


def fault_of(metrics: dict[str, Any]) -> str | None:
    """Return why a classifier with these metrics is refused; None if it passes."""
    rate = _measured(metrics)
    if rate is None or rate.rate is None:
        return "no episode without a success was held back to measure it on"
    return f"{_told(rate)}, at most {MOST:.0%} is allowed" if rate.rate > MOST else None


def _told(rate: Rate | None) -> str:
    assert rate is not None
    assert rate.rate is not None
    assert rate.high_95 is not None
    return (
        f"false successes in {rate.count} of {rate.total} held-back failures = {rate.rate:.1%} "
        f"(upper 95 % bound {rate.high_95:.1%})"
    )


def _measured(metrics: dict[str, Any]) -> Rate | None:
    try:
        return msgspec.convert(metrics.get(MEASURE), Rate)
    except msgspec.ValidationError:  # a classifier of before this was measured
        return None
