"""What every iterative solver returns."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, Float, Int
from jaxsteer.solvers._status import Status, require_converged


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Solution:
    """Where a solver ended, and how.

    Attributes:
        x: The best point found, shaped like the start.
        value: ``[]`` the objective there.
        residual: ``[]`` scale-free distance from stationarity; each solver says which.
        status: ``[]`` int32 :class:`jaxsteer.Status`.
        steps: ``[]`` iterations, int32.
        trace: ``[max_steps]`` residual before each iteration, NaN after the last, or
            None where no trace was asked for.
    """

    x: Array
    value: Float[Array, ""]
    residual: Float[Array, ""]
    status: Int[Array, ""]
    steps: Int[Array, ""]
    trace: Float[Array, " max_steps"] | None = None

    @property
    def converged(self) -> Array:
        """Whether the solver converged, ``[]`` bool."""
        return self.status == Status.CONVERGED

    def require(self) -> Solution:
        """Return self, or raise :class:`jaxsteer.SolveError` naming the failing rows."""
        require_converged(self.status, "solution")
        return self


def final_status(
    residual: Array, tolerance: Array | float, steps: Array, max_steps: Array | int
) -> Array:
    """Status of a search that ended by convergence, exhaustion or for want of descent."""
    ended = jnp.where(steps >= max_steps, Status.MAX_STEPS, Status.STALLED)
    solved = jnp.where(residual <= tolerance, Status.CONVERGED, ended)
    return jnp.where(jnp.isfinite(residual), solved, Status.NONFINITE).astype(jnp.int32)


def default_tolerance(dtype: jax.typing.DTypeLike) -> float:
    """Square root of the dtype's rounding unit."""
    return float(jnp.finfo(dtype).eps) ** 0.5


def new_trace(
    max_steps: int, dtype: jax.typing.DTypeLike, wanted: bool
) -> Array | None:
    """An empty trace, or None."""
    return jnp.full(max_steps, jnp.nan, dtype) if wanted else None


def record(trace: Array | None, step: Array, residual: Array) -> Array | None:
    """Write one entry of a trace, if there is one."""
    return None if trace is None else trace.at[step].set(residual)
