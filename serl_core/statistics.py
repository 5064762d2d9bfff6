"""Counts with honest intervals: how often something happened, and between which rates the truth lies."""

import math

import msgspec

Z_95 = 1.959964  # two-sided 95 % of the normal distribution


def wilson_interval(successes: int, trials: int, z: float = Z_95) -> tuple[float, float]:
    """Return the Wilson score interval of a success rate (Wilson 1927); it stays within 0 and 1."""
    rate = successes / trials
    weight = z * z / trials
    centre = (rate + weight / 2) / (1 + weight)
    half = z * math.sqrt(rate * (1 - rate) / trials + weight / trials / 4) / (1 + weight)
    return max(0.0, centre - half), min(1.0, centre + half)


class Rate(msgspec.Struct, frozen=True):
    """`count` out of `total`, as a fraction with its 95 % Wilson interval; all three None when `total` is 0."""

    count: int
    total: int
    rate: float | None
    low_95: float | None
    high_95: float | None

    @classmethod
    def of(cls, count: int, total: int) -> "Rate":
        """Return the rate of `count` out of `total`."""
        if total == 0:
            return cls(count, total, None, None, None)
        return cls(count, total, count / total, *wilson_interval(count, total))

    def __str__(self) -> str:
        if self.rate is None or self.low_95 is None or self.high_95 is None:
            return "none to count"
        return f"{self.count}/{self.total} = {self.rate:.1%} (95 % interval {self.low_95:.1%} to {self.high_95:.1%})"
