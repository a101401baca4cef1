"""Random members of every family, and float64 references for their divergences."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from jaxsteer.families import (
    DiagonalNormal,
    LogNormal,
    LowRankNormal,
    MultivariateLogNormal,
    MultivariateNormal,
    Normal,
    TransformedNormal,
)
from jaxsteer.maps import Exp

DTYPE = jnp.result_type(float)
EPS = float(jnp.finfo(DTYPE).eps)
FAMILIES = (
    "Normal",
    "DiagonalNormal",
    "MultivariateNormal",
    "LogNormal",
    "MultivariateLogNormal",
    "TransformedNormal",
    "LowRankNormal",
)
SCALAR = ("Normal", "LogNormal")


def as_numbers(x):
    """Round to the precision under test, then go on in float64."""
    return np.array(jnp.asarray(x), np.float64)


def parameters(name, seed, batch=(), d=3):
    """Location and scale (or covariance), as float64 values that the dtype can hold.

    Of ``LowRankNormal``: mean, factor of rank 2 and diagonal.
    """
    rng = np.random.default_rng(seed)
    if name in SCALAR:
        return as_numbers(rng.normal(size=batch)), as_numbers(
            rng.uniform(0.3, 2, batch)
        )
    loc = as_numbers(rng.normal(size=(*batch, d)))
    if name == "DiagonalNormal":
        return loc, as_numbers(rng.uniform(0.3, 2, (*batch, d)))
    if name == "LowRankNormal":
        factor = as_numbers(rng.normal(size=(*batch, d, 2)))
        return loc, factor, as_numbers(rng.uniform(0.3, 2, (*batch, d)))
    root = rng.normal(size=(*batch, d, d))
    return loc, as_numbers(root @ np.swapaxes(root, -1, -2) / d + 0.3 * np.eye(d))


def build(name, *values):
    """Return the member with these parameters."""
    values = [jnp.asarray(v, DTYPE) for v in values]
    if name == "LowRankNormal":
        return LowRankNormal(*values)
    loc, second = values
    if name == "TransformedNormal":
        return TransformedNormal(MultivariateNormal(loc, second), Exp())
    classes = (Normal, DiagonalNormal, MultivariateNormal)
    classes += (LogNormal, MultivariateLogNormal)
    return {c.__name__: c for c in classes}[name](loc, second)


def member(name, seed, batch=(), d=3):
    """Return a random member with the batch shape asked for."""
    return build(name, *parameters(name, seed, batch, d))


def mean_and_cov(name, loc, second, diagonal=None):
    """Return the moments of parameters of a normal family in ``[..., d]``."""
    if name == "LowRankNormal":
        across = second @ np.swapaxes(second, -1, -2)
        return loc, across + diagonal[..., None] * np.eye(loc.shape[-1])
    if name == "DiagonalNormal":
        return loc, second[..., None] ** 2 * np.eye(loc.shape[-1])
    return loc, second


def reference_kl(name, p, q):
    """``KL(p || q)`` of one pair of parameters, from the textbook formula in float64."""
    (m, s), (n, t) = (mean_and_cov(name, *v) for v in (p, q))
    if name in SCALAR:
        m, n, s, t = np.array([m]), np.array([n]), np.array([s]), np.array([t])
    if name in SCALAR:
        s, t = np.diag(s**2), np.diag(t**2)
    ratio = np.linalg.solve(t, s)
    shift = (m - n) @ np.linalg.solve(t, m - n)
    return 0.5 * (np.trace(ratio) - len(m) + shift - np.linalg.slogdet(ratio)[1])
