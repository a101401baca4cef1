"""A figure with its uncertainty, and a sign of how few rows it rests on."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp

from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, Bool, Float, Int

_FEW = 30

# Reflected 95% percentiles held a true gap of .05 in 83 to 85 of 100 cases, reflected 99%
# percentiles in 93 to 94: what reflection leaves of the bias is taken into account by a
# fifth of the tails (benchmarks/bench_gap_intervals.py).
_NARROWER = 5


@register_dataclass
@dataclass(frozen=True, kw_only=True)
class Interval:
    """A metric's value with its bootstrap interval.

    Attributes:
        value: the metric on the data as they are, a scalar or `[K]`.
        low: lower end of the interval: percentiles of the resampled values, or for the
            largest gaps over all thresholds their reflection about the value, within
            [0, 1].
        high: upper end.
        standard_error: standard deviation of the resampled values.
        smallest_cell: the smallest number of rows that the metric divides by (of a
            class in a group for the true-positive rates, of a group for demographic
            parity, all rows for accuracy).
        undefined: number of resamples in which such a cell came out empty, so that
            the metric was undefined; the interval rests on the others.
    """

    value: Float[Array, " ..."]
    low: Float[Array, " ..."]
    high: Float[Array, " ..."]
    standard_error: Float[Array, " ..."]
    smallest_cell: Int[Array, " ..."]
    undefined: Int[Array, " ..."]

    @property
    def few(self) -> Bool[Array, " ..."]:
        """Whether the figure rests on fewer than 30 rows, too few to lean on."""
        return self.smallest_cell < _FEW


def interval(
    value: Float[Array, "*shape"],
    replicates: Float[Array, " B *shape"],
    level: Float[Array, ""],
    smallest_cell: Int[Array, "*shape"],
    *,
    reflected: bool = False,
) -> Interval:
    """Summarize resampled values by their percentiles and standard deviation.

    Args:
        value: the value on the data.
        replicates: the value on each of B resamples, NaN where it is undefined.
        level: probability that the interval should hold, in 0..1.
        smallest_cell: number of rows the value rests on.
        reflected: whether to take a basic interval, `2 value - percentiles` at a fifth of
            the tails, cut to [0, 1] and never ending below the value.

    Returns:
        The interval; NaN ends where no resample was defined, or only one.
    """
    tail = (1 - level) / (2 * _NARROWER if reflected else 2)
    low, high = jnp.nanquantile(replicates, jnp.stack([tail, 1 - tail]), axis=0)
    if reflected:
        low, high = (jnp.clip(2 * value - end, 0, 1) for end in (high, low))
        # Where all noise is upwards the reflection ends below the value itself.
        high = jnp.maximum(high, value)
    return Interval(
        value=value,
        low=low,
        high=high,
        standard_error=jnp.nanstd(replicates, axis=0, ddof=1),
        smallest_cell=smallest_cell,
        undefined=jnp.sum(jnp.isnan(replicates), axis=0, dtype=jnp.int32),
    )
