"""Tells whether a Cholesky factor may take the place of an eigendecomposition."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, Bool, Float
from jaxsteer.linalg import matmul, solve_psd

STEPS = 12


def keeps_all_directions(
    a: Float[Array, "d d"], factor: Float[Array, "d d"]
) -> Bool[Array, ""]:
    """Whether no eigenvalue of `a` is near ``d * eps`` of the largest. O(d^2).

    That is where pseudo-inverses start to drop directions, which a factor cannot do.
    Both ends of the spectrum are found by power iterations, to well within the factor of
    4 that is kept between them and the limit.

    Args:
        a: ``[d, d]`` symmetric matrix.
        factor: ``[d, d]`` its lower Cholesky factor, NaN where there is none.
    """
    d = a.shape[-1]
    start = jax.random.normal(jax.random.key(0), (d, 1), a.dtype)

    def power(operator):
        def step(_, pair):
            vector, _ = pair
            vector = vector / jnp.linalg.norm(vector)
            image = operator(vector)
            return image, jnp.sum(vector * image)

        return jax.lax.fori_loop(0, STEPS, step, (start, jnp.zeros((), a.dtype)))[1]

    largest = power(lambda v: matmul(a, v))
    smallest = 1 / power(lambda v: solve_psd(factor, v))
    limit = 4 * d * jnp.finfo(a.dtype).eps * largest
    # NaN compares as False.
    return jnp.isfinite(factor).all() & (smallest > limit)
