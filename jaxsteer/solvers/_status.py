"""How a solve ended: one code, one message, for every solver."""

from __future__ import annotations

import enum

import jax
import numpy as np


class Status(enum.IntEnum):
    """How a solve ended. Stored as int32 arrays, so that it batches."""

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
        "The solve met NaN or infinity; a covariance may be singular (use shrinkage) or "
        "the features badly scaled (standardize them)."
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
    """Raised on the host by ``require()`` when a solve did not converge."""


def require_converged(status: jax.Array, what: str) -> None:
    """Raise :class:`SolveError` naming the failing batch rows, if there are any."""
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
