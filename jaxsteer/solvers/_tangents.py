"""Linear systems of implicit derivatives, for arrays of any shape."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax.scipy.sparse.linalg import gmres

from jaxsteer._types import Array
from jaxsteer.linalg import solver

DENSE = 256  # unknowns up to which the matrix is formed
PASSES = 3  # each multiplies the error of the damping by the damping
RESTART = 32
MAX_RESTARTS = 100


def damped_tangent_solve(linear: Callable[[Array], Array], b: Array) -> Array:
    """Solve ``linear(x) = b`` for a map of about unit scale, damping flat directions.

    Iterates ``x <- x + (linear + c)^-1 (b - linear(x))`` from 0 with ``c = sqrt(eps)``.
    Along a direction that the map scales by `s` the relative error is
    ``(c / (s + c))^3``: flat directions get the derivative 0 instead of NaN, the others
    the undamped one. The map need not be symmetric. Up to 256 unknowns by a dense
    factorization, O(n^3); above by restarted GMRES. Differentiable in both modes.

    References:
        Kress 2014, "Linear Integral Equations", 3rd ed., chapter 15 (iterated Tikhonov
        regularization).
    """
    eps = float(jnp.finfo(b.dtype).eps)
    damping = eps**0.5
    b_flat = b.ravel()

    def damped(v):
        return linear(v.reshape(b.shape)).ravel() + damping * v

    if b.size <= DENSE:
        matrix = jax.jacobian(damped)(jnp.zeros_like(b_flat))
        columns = solver(matrix)

        def solve(v):
            return columns(v[:, None])[:, 0]
    else:
        # GMRES reads its accuracy off b, so that it cannot be transposed by itself.
        search = partial(_gmres, tolerance=eps**0.75)
        solve = partial(  # pyright: ignore[reportAssignmentType]
            jax.lax.custom_linear_solve,
            damped,
            solve=search,
            transpose_solve=search,
        )

    # What a pass leaves, b - linear(x), is the damping times its change of x.
    def improve(state, _):
        x, left = state
        change = solve(left)
        return (x + change, damping * change), None

    (x, _), _ = jax.lax.scan(improve, (jnp.zeros_like(b_flat), b_flat), length=PASSES)
    return x.reshape(b.shape)


def _gmres(linear: Callable[[Array], Array], b: Array, *, tolerance: float) -> Array:
    # Incremental: Givens rotations instead of batched LAPACK calls.
    x, _ = gmres(
        linear,
        b,
        tol=tolerance,
        restart=RESTART,
        maxiter=MAX_RESTARTS,
        solve_method="incremental",
    )
    return x
