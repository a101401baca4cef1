"""Divergences of laws of one feature by numbers alone: quadrature and Monte Carlo."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._types import Array, Float, Key
from jaxsteer.families._family import Family
from jaxsteer.linalg import expm1_minus

REACH = 40.0  # standard deviations to either side of a mean
GAUSS_POINTS = 8


def kl_divergence_quadrature(p: Family, q: Family, n_panels: int = 400) -> Estimate:
    """``KL(p || q)`` in nats by quadrature, for two families on one line.

    The integral of ``p log(p / q) - p + q``, which is nowhere negative, by Gauss's rule
    on panels that are dense around the means of both laws and reach 40 standard
    deviations. What `p` has beyond that, or where `q` has nothing, is not seen: take a
    closed form or :func:`kl_divergence_mc` for heavy tails and for laws that are not
    absolutely continuous to each other.

    Args:
        p: One-feature laws with ``log_prob`` and finite ``mean`` and ``cov``, batch
            ``[...]``.
        q: Likewise, of any family; the same batch.
        n_panels: Panels around each of the two means. Cost and memory O(n_panels) for
            each member.

    Returns:
        The value, and as `standard_error` its difference from half as many panels.
        About 1e-10 in float64 where densities are smooth or have corners at their means
        only; 1e-4 where one is unbounded. Infinite where a node of `p` falls off the
        support of `q`.

    Raises:
        ValueError: If a law has no variance, or `n_panels` is below 2.

    Example:
        >>> from jaxsteer.families import Laplace, Normal
        >>> found = kl_divergence_quadrature(Normal(0.0, 1.0), Laplace(0.0, 1.0))
        >>> round(float(found.value), 4)
        0.0721
    """
    if not isinstance(n_panels, int) or n_panels < 2:
        raise ValueError(f"n_panels={n_panels!r} must be a whole number above 1.")
    laws: dict[str, Any] = {"p": p, "q": q}
    for name, law in laws.items():
        if not (hasattr(law, "cov") and jnp.shape(law.cov) == jnp.shape(law.mean)):
            raise ValueError(
                f"{name} must be laws of one feature with a variance, got "
                f"{type(law).__name__}; use jaxsteer.families.kl_divergence_mc."
            )
    fine, coarse = (_integral(p, q, n) for n in (n_panels, n_panels // 2))
    # Two infinite values agree.
    same = fine == coarse
    return Estimate(fine, jnp.where(same, 0.0, jnp.abs(fine - coarse)))


def _integral(p: Any, q: Any, n_panels: int) -> Float[Array, "..."]:
    edges = jnp.sort(jnp.concatenate([_edges(p, n_panels), _edges(q, n_panels)]), 0)
    edges = jax.lax.stop_gradient(_cut_at_supports(p, q, edges))
    where, weights = np.polynomial.legendre.leggauss(GAUSS_POINTS)
    half = jnp.diff(edges, axis=0) / 2
    shape = (GAUSS_POINTS,) + (1,) * half.ndim
    nodes = edges[:-1] + half * (1 + jnp.asarray(where, half.dtype).reshape(shape))
    mass = half * jnp.asarray(weights, half.dtype).reshape(shape)

    log_p, log_q = p.log_prob(nodes), q.log_prob(nodes)
    density = jnp.exp(log_p)
    inside = density > 0
    above = jnp.where(inside, log_p, 0.0) - jnp.where(inside, log_q, 0.0)
    # p log(p / q) - p + q = p (exp(-u) - 1 + u) with u the logarithm of the ratio; where
    # u is far below 0 the exponential overflows and the density of q itself serves.
    near = jnp.abs(above) < 1
    small = density * expm1_minus(jnp.where(near, -above, 0.0))
    large = density * jnp.where(inside, above - 1, 0.0) + jnp.exp(log_q)
    value = jnp.where(near & inside, small, large)
    return jnp.sum(jnp.where(mass > 0, value * mass, 0.0), (0, 1))


def _cut_at_supports(p: Any, q: Any, edges: Array) -> Float[Array, "m ..."]:
    """Panels cut in two where a density ends within: pieces must be smooth."""

    def where(x: Array):
        return jnp.isfinite(p.log_prob(x)) + 2 * jnp.isfinite(q.log_prob(x))

    own = where(edges[:-1])

    def halve(_, ends: tuple[Array, Array]):
        low, high = ends
        middle = (low + high) / 2
        same = where(middle) == own
        return jnp.where(same, middle, low), jnp.where(same, high, middle)

    low, _ = jax.lax.fori_loop(0, 60, halve, (edges[:-1], edges[1:]))
    return jnp.sort(jnp.concatenate([edges, low]), 0)


def _edges(law: Any, n_panels: int) -> Float[Array, "m ..."]:
    """Ends of panels around the mean, which is one of them, dense there."""
    steps = jnp.arange(-(n_panels // 2), n_panels // 2 + 1) / (n_panels // 2)
    offsets = 0.5 * jnp.sinh(float(np.arcsinh(2 * REACH)) * steps)
    mean, scale = jnp.asarray(law.mean), jnp.sqrt(law.cov)
    offsets = offsets.astype(scale.dtype).reshape(-1, *(1,) * scale.ndim)
    return mean + scale * offsets


class Estimate(NamedTuple):
    """An estimate by simulation.

    Attributes:
        value: ``[...]`` the estimate.
        standard_error: ``[...]`` its standard error.
    """

    value: Float[Array, "..."]
    standard_error: Float[Array, "..."]


def kl_divergence_mc(
    p: Family, q: Family, key: Key[Array, ""], n_samples: int = 10_000
) -> Estimate:
    """``KL(p || q)`` in nats by simulation, for any two families on one space.

    The mean of ``log p(x) - log q(x)`` over samples of `p`: unbiased, may be negative
    where the divergence is small. Infinite where a sample falls off the support of `q`;
    with a small probability of that it may be missed.

    Args:
        p: Distributions with ``sample`` and ``log_prob``, batch ``[...]``.
        q: Distributions with ``log_prob``, the same batch.
        key: A random key; the same key gives the same estimate.
        n_samples: Samples, at least 2. Cost and memory O(n_samples) for each member.

    Returns:
        The estimate and its standard error, which is ``sqrt(variance / n_samples)``.

    Raises:
        ValueError: If `n_samples` is below 2.

    Example:
        >>> import jax
        >>> from jaxsteer.families import Laplace, Normal
        >>> found = kl_divergence_mc(Normal(0.0, 1.0), Laplace(0.0, 1.0), jax.random.key(0))
        >>> abs(float(found.value) - 0.0721) < 4 * float(found.standard_error)
        True
    """
    if not isinstance(n_samples, int) or n_samples < 2:
        raise ValueError(f"n_samples={n_samples!r} must be a whole number above 1.")
    x = p.sample(key, (n_samples,))
    gaps = p.log_prob(x) - q.log_prob(x)
    error = jnp.std(gaps, 0, ddof=1) / n_samples**0.5
    return Estimate(jnp.mean(gaps, 0), error)
