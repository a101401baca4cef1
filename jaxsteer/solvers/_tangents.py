"""Linear systems of implicit derivatives, for arrays of any shape."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.scipy.sparse.linalg import gmres

from jaxsteer._types import Array
from jaxsteer.solvers._fixed_point import dense_tangent_solve

DENSE = 256  # unknowns up to which the matrix is formed
RESTART = 32
MAX_RESTARTS = 100


def damped_tangent_solve(linear: Callable[[Array], Array], b: Array) -> Array:
    """Solve ``linear(x) + sqrt(eps) x = b`` for a map of about unit scale.

    The map need not be symmetric. The damping gives flat directions the derivative 0
    instead of NaN. Up to 256 unknowns by a dense factorization, O(n^3); above by
    restarted GMRES. Differentiable in both modes.
    """
    eps = float(jnp.finfo(b.dtype).eps)

    def flat(v):
        return linear(v.reshape(b.shape)).ravel() + eps**0.5 * v

    if b.size <= DENSE:
        x = dense_tangent_solve(flat, b.ravel())
    else:

        def search(linear, b):
            # Incremental: Givens rotations instead of batched LAPACK calls.
            x, _ = gmres(
                linear,
                b,
                tol=eps**0.75,
                restart=RESTART,
                maxiter=MAX_RESTARTS,
                solve_method="incremental",
            )
            return x

        # GMRES reads its accuracy off b, so that it cannot be transposed by itself.
        x = jax.lax.custom_linear_solve(flat, b.ravel(), search, search)
    return x.reshape(b.shape)
