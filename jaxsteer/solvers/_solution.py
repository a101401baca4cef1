"""What every iterative solver returns, and how it says how it ended."""

from __future__ import annotations

import dataclasses
import enum

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, Float, Int


class Status(enum.IntEnum):
    """How a solve ended. Stored as int32 arrays, so that it batches.

    Attributes:
        value: Its code.

    Example:
        >>> Status(1).name, Status.CONVERGED.message
        ('MAX_STEPS', 'The residual is below the tolerance.')
    """

    CONVERGED = 0
    MAX_STEPS = 1
    STALLED = 2
    NONFINITE = 3
    INFEASIBLE = 4
    BAD_INPUT = 5

    @property
    def message(self) -> str:
        """What happened, the probable causes, and what to try."""
        return _MESSAGES[self]


_MESSAGES = {
    Status.CONVERGED: "The residual is below the tolerance.",
    Status.MAX_STEPS: (
        "The step limit was reached before the residual fell below the tolerance; allow "
        "more steps, start nearer, or use float64."
    ),
    Status.STALLED: (
        "No further decrease was possible although the residual is above the tolerance; "
        "this is usually rounding: use float64 or standardize the features."
    ),
    Status.NONFINITE: (
        "The solve met NaN or infinity; a covariance, or the ideal one, may be singular "
        "to rounding (use shrinkage, or float64) or the features badly scaled "
        "(standardize them)."
    ),
    Status.INFEASIBLE: (
        "No solution satisfies the constraints; a class may have no member in a group."
    ),
    Status.BAD_INPUT: (
        "The input was unusable before the solve began: NaN or infinity among the "
        "moments, a prior that is not positive, or a covariance that is not positive "
        "definite."
    ),
}


class SolveError(RuntimeError):
    """Raised on the host by ``require()`` when a solve did not converge.

    Example:
        >>> try:
        ...     require_converged(np.array([0, 2]), "fit")
        ... except SolveError as error:
        ...     print(str(error)[:44])
        fit: 1 of 2 problems failed (row 1: STALLED)
    """


def require_converged(status: jax.Array, what: str) -> None:
    """Raise :class:`SolveError` naming the failing batch rows, if there are any.

    Args:
        status: ``[]`` or ``[...]`` codes of :class:`Status`, with values.
        what: What was solved, for the message.

    Raises:
        SolveError: If a row did not converge.

    Example:
        >>> require_converged(jnp.array([0, 0]), "fit")
    """
    codes = np.asarray(status)
    failed = np.argwhere(codes != Status.CONVERGED)
    if len(failed) == 0:
        return
    if codes.ndim == 0:
        code = Status(int(codes))
        raise SolveError(f"{what}: {code.name}. {code.message}")
    lines = [
        f"row {', '.join(map(str, row))}: {Status(int(codes[tuple(row)])).name}"
        for row in failed[:10].tolist()
    ]
    more = f" and {len(failed) - 10} more" if len(failed) > 10 else ""
    seen = sorted({int(codes[tuple(row)]) for row in failed.tolist()})
    notes = " ".join(f"{Status(c).name}: {Status(c).message}" for c in seen)
    raise SolveError(
        f"{what}: {len(failed)} of {codes.size} problems failed ({'; '.join(lines)}{more})."
        f" {notes}"
    )


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

    Example:
        >>> zero = jnp.zeros(())
        >>> code, steps = jnp.int32(Status.STALLED), jnp.int32(7)
        >>> found = Solution(x=zero, value=zero, residual=zero, status=code, steps=steps)
        >>> bool(found.converged)
        False
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
