"""The Bures-Wasserstein barycenter of covariances."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, Float, Int
from jaxsteer.linalg import einsum, matmul, symmetrize
from jaxsteer.maps import gaussian_transport
from jaxsteer.solvers import final_status


class Barycenter(NamedTuple):
    """What :func:`bures_barycenter` found.

    Attributes:
        cov: ``[d, d]``.
        residual: ``[]`` how far the mean transport map is from the identity (root mean
            square of a row); it is the identity at the barycenter and nowhere else.
        status: ``[]`` how it ended, a :class:`jaxsteer.Status`.
        steps: ``[]`` number of steps.
    """

    cov: Float[Array, "d d"]
    residual: Float[Array, ""]
    status: Int[Array, ""]
    steps: Int[Array, ""]


@partial(jax.jit, static_argnums=(2, 3))
def bures_barycenter(
    covs: Float[Array, "k d d"],
    share: Float[Array, " k"],
    max_steps: int,
    tolerance: float,
) -> Barycenter:
    """Minimize ``sum_i share_i W2(S, S_i)^2`` over covariances ``S``.

    ``S <- A S A`` with ``A`` the mean of the transport maps from ``S`` to every ``S_i``,
    from the covariance of the largest share; for two covariances one step is exact.
    O(k d^3) a step. Not differentiable.

    References:
        Alvarez-Esteban et al. 2016, arXiv 1511.05355.
    """
    d = covs.shape[-1]
    zero = jnp.zeros(d, covs.dtype)

    def mean_map(cov: Array):
        maps = gaussian_transport(zero, jnp.broadcast_to(cov, covs.shape), zero, covs)
        mean = symmetrize(einsum("k,kij->ij", share, maps.weight))
        gap = mean - jnp.eye(d, dtype=covs.dtype)
        return mean, jnp.sqrt(jnp.sum(gap**2) / d)

    def body(state: tuple[Array, Array, Array, Array]):
        cov, mean, _, steps = state
        cov = symmetrize(matmul(mean, matmul(cov, mean)))
        return cov, *mean_map(cov), steps + 1

    def unfinished(state: tuple[Array, Array, Array, Array]):
        return (state[2] > tolerance) & (state[3] < max_steps)

    start = covs[jnp.argmax(share)]
    first = (start, *mean_map(start), jnp.zeros((), jnp.int32))
    cov, _, residual, steps = jax.lax.while_loop(unfinished, body, first)
    status = final_status(residual, tolerance, steps, max_steps)
    return Barycenter(cov, residual, status, steps)
