"""Sums of log-determinant objectives that the solvers on matrix groups are tested on."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np


def random_args(k: int, d: int, seed: int) -> dict:
    """Precisions and covariances of `k` classes with mean differences."""
    random = np.random.default_rng(seed)

    def covariances():
        a = random.normal(size=(k, d, 3 * d))
        return a @ np.swapaxes(a, 1, 2) / (3 * d)

    return {
        "precision": jnp.asarray(np.linalg.inv(covariances())),
        "covariance": jnp.asarray(covariances()),
        "mean": jnp.asarray(random.normal(size=(k, d))),
        "aim": jnp.asarray(random.normal(size=(k, d))),
    }


def objective(x, args):
    """Half the weighted traces and Mahalanobis distances; one matrix."""
    t = x[0]
    gap = args["mean"] @ t.T - args["aim"]
    spread = jnp.einsum("ijk,kl,ilm,jm->", args["precision"], t, args["covariance"], t)
    distance = jnp.einsum("ij,ijk,ik->", gap, args["precision"], gap)
    return 0.5 * (spread + distance) / len(gap)


def curvature(frame, args):
    """Second derivatives along the entries of the chart on GeneralLinear."""
    t = frame[0]
    mean = args["mean"]
    second = args["covariance"] + mean[:, :, None] * mean[:, None, :]
    columns = jnp.einsum("jk,ikl,jl->ij", t, second, t)
    rows = jnp.diagonal(args["precision"], axis1=1, axis2=2)
    return jnp.einsum("ij,ik->jk", rows, columns)[None] / len(mean)
